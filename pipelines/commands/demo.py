"""`python train.py demo`: a run's model, to play with."""

from jsonargparse import Namespace

from pipelines.commands.function import FunctionCommand

_COMMAND = FunctionCommand("pipelines.demo", "demo")
prepare = _COMMAND.prepare


def run(values: Namespace) -> None:
    """Say where the page is, and serve it."""
    print(f"  http://127.0.0.1:{values.port}  (Ctrl-C ends it)", flush=True)
    _COMMAND.call(values)
