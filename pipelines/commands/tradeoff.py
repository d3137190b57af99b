"""`python train.py tradeoff`: what fewer features, and fewer of them per class, cost in accuracy."""

from jsonargparse import Namespace

from pipelines.commands.function import called, function_parser
from pipelines.configs import configs_first
from pipelines.option_parser import OneSentenceParser
from pipelines.tradeoff import tradeoff


def prepare(arguments: list[str]) -> tuple[OneSentenceParser, list[str]]:
    """The parser, and the arguments as it takes them."""
    return function_parser(tradeoff), configs_first(arguments)[0]


def run(values: Namespace) -> None:
    """Run the command and say where its page or table is."""
    print(f"\n  written to {called(tradeoff, values).parent}", flush=True)
