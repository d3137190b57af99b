"""`python train.py explain`: why a run's model decides as it does about pictures of one's own."""

from pipelines.commands.function import FunctionCommand

_COMMAND = FunctionCommand("pipelines.explain", "explain")
prepare, run = _COMMAND.prepare, _COMMAND.run
