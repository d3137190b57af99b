"""`python train.py export`: a run's model, to hand on."""

from pipelines.commands.function import FunctionCommand

_COMMAND = FunctionCommand("pipelines.export", "export")
prepare, run = _COMMAND.prepare, _COMMAND.run
