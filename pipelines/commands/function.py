"""Commands whose options are the arguments of a function, which is imported when they are known to be right."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from jsonargparse import Namespace

from pipelines.commands.signature import signature_of
from pipelines.configs import configs_first
from pipelines.option_parser import OneSentenceParser


class FunctionCommand:
    """A command that calls a function and says where its result is.

    Args:
        module: where the function is.
        name: of the function, and of the command.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def prepare(self, arguments: list[str]) -> tuple[OneSentenceParser, list[str]]:
        """The parser, and the arguments as it takes them."""
        function = signature_of(self._module, self._name)
        parser = OneSentenceParser(description=(function.__doc__ or "").partition("\n")[0])
        parser.add_argument("-c", "--config", action="config", help="options from a file")
        parser.add_function_arguments(function, as_group=False)  # whose heading would be the description again
        return parser, configs_first(arguments)[0]

    def call(self, values: Namespace) -> Path:
        """Call the function with parsed values and return the file that it wrote."""
        return called(getattr(import_module(self._module), self._name), values)

    def run(self, values: Namespace) -> None:
        """Call the function and say where its result is."""
        print(f"  written to {self.call(values)}", flush=True)


def called(function: Callable[..., Path], values: Namespace) -> Path:
    """Call a function with parsed values and return the file that it wrote."""
    import pipelines.permitted_classes  # noqa: F401  permits the classes that a run's config may name
    from handful.threads import use_the_cores

    use_the_cores()
    return function(**{name: value for name, value in vars(values).items() if name != "config"})
