"""Ports for tests: one for a process group, one that nobody listens on."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

#: Below the ports that Linux gives to outgoing connections and to those who ask for any.
_RANGE = (10_000, 32_000)


def free_port() -> int:
    """A port that nobody has, and that no program gets by chance before it is used."""
    draw = random.SystemRandom()
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port := draw.randrange(*_RANGE)))
            except OSError:
                continue
            return port


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and is nobody else's meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, and not listening
        yield held.getsockname()[1]
