"""Commands in forked processes: as real as new ones, without the seconds that imports take, and killed where wanted."""

import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Events of Python's audit that change files.
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: exit status; −9 where it was killed.
        text: standard output and error.
        events: changes of files and batches that were counted.
    """

    status: int
    text: str
    events: int


def run(arguments: Sequence[str | Path], folder: Path, kill_at: int | None = None, timeout: float = 1800.0) -> Ended:
    """Run `train.py ARGUMENTS` in a forked process.

    Args:
        arguments: of the command.
        folder: changes inside it are counted.
        kill_at: the event at which the process is killed, from 1.
        timeout: in seconds.
    """
    log, count = folder.with_name(f"{folder.name}.log"), folder.with_name(f"{folder.name}.events")
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _child([str(a) for a in arguments], folder, kill_at, log, count)
    deadline = time.monotonic() + timeout
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise TimeoutError(f"{arguments}: still running after {timeout} s")
        time.sleep(0.02)
    events = count.stat().st_size if count.exists() else 0
    text = log.read_text(errors="replace")
    for file in (log, count):
        file.unlink(missing_ok=True)
    return Ended(os.waitstatus_to_exitcode(status), text, events)


def _child(arguments: list[str], folder: Path, kill_at: int | None, log: Path, count: Path) -> None:
    status = 70
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        warnings._showwarnmsg_impl = lambda message: print(message.message, file=sys.stderr)  # pytest's records them
        _count_events(str(folder), kill_at, os.open(count, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND))
        from pipelines.cli import main

        try:
            main(arguments)
            status = 0
        except SystemExit as end:
            status = int(end.code or 0) if isinstance(end.code, int | None) else 1
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        status = 1
    finally:
        os._exit(status)


def _count_events(folder: str, kill_at: int | None, count: int) -> None:
    owner, seen = os.getpid(), 0

    def step() -> None:
        nonlocal seen
        seen += 1
        os.write(count, b".")
        if seen == kill_at:
            os.kill(owner, signal.SIGKILL)

    def hook(event: str, details: tuple) -> None:
        if os.getpid() != owner or (event not in _CHANGES and event != "open") or not details:
            return
        if event == "open" and not (details[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        path = details[0]
        if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(folder):
            step()

    sys.addaudithook(hook)

    import tests.helpers.interrupt

    tests.helpers.interrupt.on_batch = step
