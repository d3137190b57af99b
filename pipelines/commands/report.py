"""`python train.py report`: a finished run on one page."""

from pipelines.commands.function import FunctionCommand

_COMMAND = FunctionCommand("pipelines.report", "report")
prepare, run = _COMMAND.prepare, _COMMAND.run
