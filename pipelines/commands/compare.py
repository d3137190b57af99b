"""`python train.py compare`: several runs side by side, in one table and on one page."""

import json

from jsonargparse import Namespace

from pipelines.commands.function import called, function_parser
from pipelines.compare import compare
from pipelines.configs import configs_first
from pipelines.option_parser import OneSentenceParser


def prepare(arguments: list[str]) -> tuple[OneSentenceParser, list[str]]:
    """The parser, and the arguments as it takes them: `--run_dirs A B C` as one list."""
    return function_parser(compare), _gathered(configs_first(arguments)[0])


def _gathered(arguments: list[str]) -> list[str]:
    if "--run_dirs" not in arguments:
        return arguments
    start = arguments.index("--run_dirs") + 1
    stop = next((i for i in range(start, len(arguments)) if arguments[i].startswith("--")), len(arguments))
    folders = arguments[start:stop]
    if len(folders) == 1 and folders[0].startswith("["):  # a list already
        return arguments
    return [*arguments[:start], json.dumps(folders), *arguments[stop:]]


def run(values: Namespace) -> None:
    """Run the command and say where its page is."""
    print(f"  written to {called(compare, values)}", flush=True)
