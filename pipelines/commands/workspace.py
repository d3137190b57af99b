"""`python train.py workspace`: a saved W&B workspace."""

from jsonargparse import Namespace

from pipelines.commands.function import called, function_parser
from pipelines.configs import configs_first
from pipelines.option_parser import OneSentenceParser
from pipelines.workspace import workspace


def prepare(arguments: list[str]) -> tuple[OneSentenceParser, list[str]]:
    """The parser, and the arguments as it takes them."""
    return function_parser(workspace), configs_first(arguments)[0]


def run(values: Namespace) -> None:
    """Run the command and say where the file is."""
    print(f"written to {called(workspace, values)}", flush=True)
