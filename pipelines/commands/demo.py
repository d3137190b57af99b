"""`python train.py demo`: a run's model, to play with."""

from jsonargparse import Namespace

from pipelines.commands.function import called, function_parser
from pipelines.configs import configs_first
from pipelines.demo import demo
from pipelines.option_parser import OneSentenceParser


def prepare(arguments: list[str]) -> tuple[OneSentenceParser, list[str]]:
    """The parser, and the arguments as it takes them."""
    return function_parser(demo), configs_first(arguments)[0]


def run(values: Namespace) -> None:
    """Say where the page is, and serve it."""
    print(f"http://127.0.0.1:{values.port}  (Ctrl-C ends it)", flush=True)
    called(demo, values)
