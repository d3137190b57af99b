"""`python train.py explain`: why a run's model decides as it does about pictures of one's own."""

from jsonargparse import Namespace

from pipelines.commands.function import called, function_parser
from pipelines.configs import configs_first
from pipelines.explain import explain
from pipelines.option_parser import OneSentenceParser


def prepare(arguments: list[str]) -> tuple[OneSentenceParser, list[str]]:
    """The parser, and the arguments as it takes them."""
    return function_parser(explain), configs_first(arguments)[0]


def run(values: Namespace) -> None:
    """Run the command and say where its page or table is."""
    print(f"written to {called(explain, values)}", flush=True)
