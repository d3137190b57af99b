"""`python train.py demo`: a run's model, to play with."""

import importlib.util
import socket
from importlib.metadata import PackageNotFoundError, version

from jsonargparse import Namespace

from handful.errors import UserError
from pipelines.commands.function import FunctionCommand

_COMMAND = FunctionCommand("pipelines.demo", "demo")
prepare = _COMMAND.prepare


def check(values: Namespace) -> None:
    """Refuse what the page cannot be served with, before imports of seconds.

    Raises:
        UserError: Gradio is missing or of another version, or the port is no port or is taken.
    """
    if importlib.util.find_spec("gradio") is None or _major("gradio") != 6:
        raise UserError("the demo needs the package gradio: pip install 'gradio>=6,<7'")
    if not 1 <= values.port <= 65535:
        raise UserError(f"--port: from 1 to 65535, not {values.port}")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", values.port))
        except OSError as error:
            raise UserError(f"--port: {values.port} is not available ({error.strerror}); choose another one") from error


def _major(package: str) -> int | None:
    """The first number of an installed package's version; None where it says none."""
    try:
        return int(version(package).partition(".")[0])
    except (PackageNotFoundError, ValueError):
        return None


def run(values: Namespace) -> None:
    """Serve the page, and say where it is."""
    _COMMAND.call(values)
