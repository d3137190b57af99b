"""`python train.py evaluate`: what can be said in numbers of a run's stages, beside their accuracy."""

from pipelines.commands.function import FunctionCommand

_COMMAND = FunctionCommand("pipelines.evaluate", "evaluate")
prepare, run = _COMMAND.prepare, _COMMAND.run
