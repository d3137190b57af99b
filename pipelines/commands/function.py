"""Commands whose options are the arguments of a function."""

from collections.abc import Callable
from pathlib import Path

from jsonargparse import Namespace

import pipelines.permitted_classes  # noqa: F401  permits the classes that a run's config may name
from handful.threads import use_the_cores
from pipelines.option_parser import OneSentenceParser


def function_parser(function: Callable[..., Path]) -> OneSentenceParser:
    """A parser with an option per argument of the function, their help from its docstring."""
    parser = OneSentenceParser(description=(function.__doc__ or "").partition("\n")[0])
    parser.add_argument("-c", "--config", action="config", help="options from a file")
    parser.add_function_arguments(function)
    return parser


def called(function: Callable[..., Path], values: Namespace) -> Path:
    """Call the function with parsed values and return the file that it wrote."""
    use_the_cores()
    return function(**{name: value for name, value in vars(values).items() if name != "config"})
