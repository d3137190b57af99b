"""`python train.py compare`: several runs side by side, in one table and on one page."""

import json

from pipelines.commands.function import FunctionCommand
from pipelines.option_parser import OneSentenceParser

_COMMAND = FunctionCommand("pipelines.compare", "compare")
run = _COMMAND.run


def prepare(arguments: list[str]) -> tuple[OneSentenceParser, list[str]]:
    """The parser, and the arguments as it takes them: `--run_dirs A B C` as one list."""
    parser, arranged = _COMMAND.prepare(arguments)
    return parser, _gathered(arranged)


def _gathered(arguments: list[str]) -> list[str]:
    if "--run_dirs" not in arguments:
        return arguments
    start = arguments.index("--run_dirs") + 1
    stop = next((i for i in range(start, len(arguments)) if arguments[i].startswith("--")), len(arguments))
    folders = arguments[start:stop]
    if len(folders) == 1 and folders[0].startswith("["):  # a list already
        return arguments
    return [*arguments[:start], json.dumps(folders), *arguments[stop:]]
