"""`python train.py predict --images`: predictions for pictures of one's own."""

from pipelines.commands.function import FunctionCommand

_COMMAND = FunctionCommand("pipelines.predict", "predict")
prepare, run = _COMMAND.prepare, _COMMAND.run
