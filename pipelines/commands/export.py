"""`python train.py export`: a run's model, to hand on."""

from jsonargparse import Namespace

from pipelines.commands.function import called, function_parser
from pipelines.configs import configs_first
from pipelines.export import export
from pipelines.option_parser import OneSentenceParser


def prepare(arguments: list[str]) -> tuple[OneSentenceParser, list[str]]:
    """The parser, and the arguments as it takes them."""
    return function_parser(export), configs_first(arguments)[0]


def run(values: Namespace) -> None:
    """Run the command and say where the model is."""
    print(f"written to {called(export, values)}", flush=True)
