"""`python train.py push`: a run's model, to hand on."""

from pipelines.commands.function import FunctionCommand

_COMMAND = FunctionCommand("pipelines.export", "push")
prepare, run = _COMMAND.prepare, _COMMAND.run
