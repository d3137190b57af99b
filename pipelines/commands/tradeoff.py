"""`python train.py tradeoff`: what fewer features, and fewer of them per class, cost in accuracy."""

from jsonargparse import Namespace

from pipelines.commands.function import FunctionCommand

_COMMAND = FunctionCommand("pipelines.tradeoff", "tradeoff")
prepare = _COMMAND.prepare


def run(values: Namespace) -> None:
    """Run the command and say in which folder its table and figure are."""
    print(f"\n  written to {_COMMAND.call(values).parent}", flush=True)
