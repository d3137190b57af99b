"""`python train.py probe`: does the score of a class depend on the region that should decide it?"""

from pipelines.commands.function import FunctionCommand

_COMMAND = FunctionCommand("pipelines.probe", "probe")
prepare, run = _COMMAND.prepare, _COMMAND.run
