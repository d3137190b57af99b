"""`python train.py probe`: does the score of a class hang on the region that should decide it?"""

from jsonargparse import Namespace

from pipelines.commands.function import called, function_parser
from pipelines.configs import configs_first
from pipelines.option_parser import OneSentenceParser
from pipelines.probe import probe


def prepare(arguments: list[str]) -> tuple[OneSentenceParser, list[str]]:
    """The parser, and the arguments as it takes them."""
    return function_parser(probe), configs_first(arguments)[0]


def run(values: Namespace) -> None:
    """Run the command and say where its file is."""
    print(f"  written to {called(probe, values)}", flush=True)
