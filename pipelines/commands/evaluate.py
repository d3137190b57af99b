"""`python train.py evaluate`: what can be said in numbers of a run's stages, beside their accuracy."""

from jsonargparse import Namespace

from pipelines.commands.function import called, function_parser
from pipelines.configs import configs_first
from pipelines.evaluate import evaluate
from pipelines.option_parser import OneSentenceParser


def prepare(arguments: list[str]) -> tuple[OneSentenceParser, list[str]]:
    """The parser, and the arguments as it takes them."""
    return function_parser(evaluate), configs_first(arguments)[0]


def run(values: Namespace) -> None:
    """Run the command and say where its file is."""
    print(f"  written to {called(evaluate, values)}", flush=True)
