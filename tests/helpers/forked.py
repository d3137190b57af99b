"""Commands in forked processes: as real as new ones, without the seconds that imports take, and killed where wanted."""

import faulthandler
import json
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import matplotlib.backends.backend_agg  # noqa: F401  a command imports these; a forked process has them already
import torch.utils.serialization.config  # noqa: F401

import pipelines.commands.pipeline
import pipelines.permitted_classes  # noqa: F401
from tests.helpers.pipeline import ROOT
from tests.helpers.ports import free_port

#: Seconds that processes have; less than a test has, so that what they printed is shown and none is left.
LONGEST = 500.0
#: Seconds that others have after one has failed.
_GRACE = 60.0

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


def run(arguments: Sequence[str | Path], folder: Path, kill_at: int | None = None, timeout: float = LONGEST) -> Ended:
    """Run `train.py ARGUMENTS` in a forked process.

    Args:
        arguments: of the command.
        folder: changes inside it are counted.
        kill_at: the event at which the process is killed, from 1.
        timeout: in seconds.
    """
    log, count = folder.with_name(f"{folder.name}.log"), folder.with_name(f"{folder.name}.events")
    child = fork(lambda: _child([str(a) for a in arguments], folder, kill_at, log, count))
    (status,) = wait([child], timeout, arguments, [log])
    events = count.stat().st_size if count.exists() else 0
    count.unlink(missing_ok=True)
    return Ended(status, _read(log), events)


def run_ranks(
    arguments: Sequence[str | Path],
    folder: Path,
    prepare: Callable[[int], None] = lambda rank: None,
    timeout: float = LONGEST,
) -> Ended:
    """Run `train.py ARGUMENTS` in two forked processes, which find what torchrun leaves for its own.

    Args:
        arguments: of the command; two processes and the strategy are added.
        folder: of the run.
        prepare: called with the rank in each process, before the command.
        timeout: in seconds.

    Returns:
        The status that is not 0, if any, and what both have printed.
    """
    command = [*map(str, arguments), "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    port = free_port()
    logs = [folder.with_name(f"{folder.name}.{rank}.log") for rank in range(2)]

    def work(rank: int) -> None:
        from lightning.pytorch.utilities import rank_zero_only

        launcher = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2,
                    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "forked"}  # fmt: skip
        os.environ.update({name: str(value) for name, value in launcher.items()})
        rank_zero_only.rank = rank  # Lightning reads it from the environment when it is imported
        prepare(rank)
        _child(command, folder, None, logs[rank], None)

    children = [fork(lambda rank=rank: work(rank)) for rank in range(2)]
    statuses = wait(children, timeout, arguments, logs)
    return Ended(next(filter(None, statuses), 0), "".join(map(_read, logs)), 0)


class Child:
    """A forked process, to be used as one of `subprocess.Popen` is.

    Args:
        pid: its number.
    """

    def __init__(self, pid: int) -> None:
        self.pid, self.returncode = pid, None

    def poll(self) -> int | None:
        """The status, where it has ended."""
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if done else None
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The status, once it has ended."""
        end = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                raise TimeoutError(f"process {self.pid} is still running after {timeout:.0f} s")
            time.sleep(0.02)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def launch(arguments: Sequence[str | Path], folder: Path, log: Path) -> Child:
    """Start `train.py ARGUMENTS` in a forked process of a session of its own, which has Lightning start another.

    What Lightning starts is forked, too, before anything of the command is done; `LOG.second` names it.
    """
    command = [*map(str, arguments)]

    def work() -> None:
        os.setsid()
        # from these, Lightning makes the command of the others
        sys.argv, sys.modules["__main__"].__spec__ = [str(ROOT / "train.py"), *command], None
        faulthandler.enable(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND))  # all threads, where it is aborted
        _fork_for_lightning(folder, log)
        _child(command, folder, None, log, None)

    return Child(fork(work))


def _fork_for_lightning(folder: Path, log: Path) -> None:
    """Fork a process that waits, and have it do what Lightning next starts a process for."""
    from lightning.fabric.strategies.launchers import subprocess_script

    receiver, sender = os.pipe()

    def second() -> None:
        os.close(sender)
        with os.fdopen(receiver) as file:
            if not (text := file.read()):
                os._exit(0)  # the first ended without it
        (interpreter, script, *arguments), environment, cwd = json.loads(text)
        assert (interpreter, script) == (sys.executable, str(ROOT / "train.py"))
        from lightning.pytorch.utilities import rank_zero_only

        os.environ.clear()
        os.environ.update(environment)
        os.chdir(cwd)
        sys.argv[1:] = arguments
        rank_zero_only.rank = int(os.environ["LOCAL_RANK"])  # Lightning reads it when it is imported
        log.with_name(f"{log.name}.second").write_text(str(os.getpid()))
        _child(arguments, folder, None, log, None, os.O_APPEND)

    child = Child(fork(second))
    os.close(receiver)

    def started(command: Sequence[str], env: dict[str, str], cwd: str | None) -> Child:
        with os.fdopen(sender, "w") as file:
            json.dump([list(command), env, cwd or os.getcwd()], file)
        return child

    subprocess_script.subprocess = SimpleNamespace(Popen=started)


def fork(work: Callable[[], None]) -> int:
    """Call a function in a forked process, which must end itself by `os._exit`; the process's number."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(70)
    return child


def wait(
    children: Sequence[int], timeout: float, what: object = "a process", logs: Sequence[Path] = ()
) -> list[int]:
    """How processes ended; all are killed after the timeout, or some time after one of them has failed."""
    began, ended = time.monotonic(), {}
    deadline = began + timeout
    try:
        while len(ended) < len(children):
            for child in (child for child in children if child not in ended):
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    ended[child] = os.waitstatus_to_exitcode(status)
                    if ended[child]:
                        deadline = min(deadline, time.monotonic() + _GRACE)
            if time.monotonic() > deadline:
                said = "".join(log.read_text(errors="replace") for log in logs if log.exists())
                raise TimeoutError(f"{what}: still running after {time.monotonic() - began:.0f} s\n{said}")
            time.sleep(0.02)
    finally:
        for child in (child for child in children if child not in ended):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return [ended[child] for child in children]


def _read(log: Path) -> str:
    text = log.read_text(errors="replace")
    log.unlink()
    return text


def _child(
    arguments: list[str], folder: Path, kill_at: int | None, log: Path, count: Path | None, how: int = os.O_TRUNC
) -> None:
    status = 70
    try:
        write_to(os.open(log, os.O_WRONLY | os.O_CREAT | how))
        if count is not None:
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
        traceback.print_exc()
        sys.stderr.flush()
        status = 1
    finally:
        os._exit(status)


def write_to(out: int) -> None:
    """Let this process write its standard output and error, logged messages and warnings to an open file."""
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    _log_to_stderr()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # workers of xdist ignore it
    warnings._showwarnmsg_impl = lambda message: print(message.message, file=sys.stderr)  # pytest's records them


def _log_to_stderr() -> None:
    """Point Lightning's handlers at this process's standard error; when they were made it was another."""
    for logger in map(logging.getLogger, list(logging.root.manager.loggerDict)):
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setStream(sys.stderr)


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
