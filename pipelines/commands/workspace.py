"""`python train.py workspace`: a saved W&B workspace."""

from pipelines.commands.function import FunctionCommand

_COMMAND = FunctionCommand("pipelines.workspace", "workspace")
prepare, run = _COMMAND.prepare, _COMMAND.run
