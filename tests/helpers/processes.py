"""Pipelines on two real processes that the launcher starts, of which one is killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.forked import Child, launch
from tests.helpers.pipeline import ROOT

#: A run whose other process was killed must have ended after so many seconds, but for those in which a process of it
#: was ready and another program had the core.
LIMIT = 30

#: A run that nothing happens to must have ended after so many seconds, on however busy a machine.
PATIENCE = 1800


@dataclass(frozen=True)
class Lost:
    """How a run ended of which a process was killed.

    Attributes:
        status: of the first process; -9 where that was the killed one.
        seconds: until the last process had ended.
        waited: of these, the seconds in which the process that waited longest for a core did so.
        text: standard output and error of all, and where the processes that were left were at the end.
        left: processes that were still there after `LIMIT` seconds without those that were waited.
    """

    status: int
    seconds: float
    waited: float
    text: str
    left: list[int]

    @property
    def sentences(self) -> list[str]:
        """What the command said, without what other libraries log."""
        return [line for line in self.text.splitlines() if line.startswith("handful")]


def start(config: Path, run: Path, forked: bool = False) -> "subprocess.Popen[bytes] | Child":
    """Start a pipeline on two processes, in a session of its own; what they print goes to a file, as a pipe fills.

    Args:
        config: of the pipeline.
        run: its folder.
        forked: whether both processes are forked, without the seconds of imports; the first starts the second.
    """
    arguments = ["pipeline", "--config", config, "--run_dir", run, "--trainer.devices", "2"]
    _output(run).with_name(f"{_output(run).name}.second").unlink(missing_ok=True)
    if forked:
        return launch([*arguments, "--trainer.strategy", "ddp"], run, _output(run))
    with _output(run).open("w") as output:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *map(str, arguments), "--trainer.strategy", "ddp"],
            cwd=ROOT,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "HANDFUL_TRUST": "tests",
                "WANDB_MODE": "disabled",
                "PYTHONFAULTHANDLER": "1",  # all threads of a process that is aborted, see `lose`
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _output(run: Path) -> Path:
    return run.with_name(f"{run.name}.output")


def finish(config: Path, run: Path, forked: bool = False) -> str:
    """Run a pipeline on two processes to its end; what it printed.

    Args:
        config: of the pipeline.
        run: its folder.
        forked: as `start`'s.

    Raises:
        RuntimeError: it failed.
    """
    process = start(config, run, forked)
    process.wait(timeout=PATIENCE)
    text = _output(run).read_text(errors="replace")
    if process.returncode:
        raise RuntimeError(f"ended with {process.returncode}: {text[-2000:]}")
    return text


def lose(config: Path, run: Path, phase: str, rank: int, after: float = 0.0, forked: bool = False) -> Lost:
    """Start a pipeline on two processes and kill one of them.

    Args:
        config: of the pipeline.
        run: its folder.
        phase: once this has begun.
        rank: of the process that is killed.
        after: seconds to wait before.
        forked: as `start`'s.
    """
    process = start(config, run, forked)
    while not (run / phase / "started.json").exists() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(after)
    victim = process.pid
    while rank and (victim := _second(process.pid, run)) is None and process.poll() is None:
        time.sleep(0.02)
    if process.poll() is not None or victim is None:
        raise RuntimeError(f"ended before it could be killed: {_output(run).read_text()[-2000:]}")
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    before = {pid: _waited(pid) for pid in _session(process.pid)}
    waited = 0.0
    while (left := _session(process.pid)) and time.monotonic() < killed + LIMIT + waited:
        waited = max([waited, *(_waited(pid) - before.get(pid, 0.0) for pid in left)])
        time.sleep(0.1)
        process.poll()  # a process that nobody waits for would stay as a zombie
    seconds = time.monotonic() - killed
    for other in left:
        os.kill(other, signal.SIGABRT)  # which tells where all of its threads are
    if left:
        time.sleep(2)
    for other in _session(process.pid):
        os.kill(other, signal.SIGKILL)
    process.wait(timeout=60)
    return Lost(process.returncode, seconds, waited, _output(run).read_text(errors="replace"), left)


def _waited(pid: int) -> float:
    """Seconds in which the threads of a process were ready to run and had no core, of the one that waited longest."""
    longest = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            longest = max(longest, int(task.read_text().split()[1]))
    return longest / 1e9


def _stat(pid: int) -> tuple[str, int, int]:
    """State, parent and session of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[3])


def _session(leader: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, _, session = _stat(int(entry.name))
        except (OSError, ValueError):
            continue
        if session == leader and state != "Z":
            found.append(int(entry.name))
    return found


def _second(first: int, run: Path) -> int | None:
    """The process of rank one that the first has started."""
    named = _output(run).with_name(f"{_output(run).name}.second")
    if named.exists():
        return int(named.read_text() or 0) or None
    for pid in _session(first):
        try:
            if _stat(pid)[1] == first and b"LOCAL_RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return pid
        except OSError:
            continue
    return None
