"""One command in this process, watched: how it ended, what it wrote, what it took."""

import contextlib
import ctypes
import gc
import io
import logging
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import matplotlib.pyplot as plt
import torch
import wandb  # noqa: F401 - when imported, it makes folders for temporary files, which stay until the process ends
from lightning.pytorch.utilities import rank_zero_only

from tests.soak.world import World, digest_of

#: A case that is right may train for hours; it is stopped after so many seconds of computing, and of waiting.
LIMIT, WAIT = 10, 120

#: So much memory may be asked for beyond what the process holds already.
ROOM = 3 * 2**30

#: So much may be used by one case, beyond what the process used before.
PEAK = 2**30

#: A longer sentence is no sentence.
LONGEST = 4000

_LAUNCHER = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class TooLong(BaseException):
    """The case was still at work when its time was over."""


@dataclass
class Command:
    """What a case runs.

    Attributes:
        arguments: of `train.py`.
        may_change: folders, by name inside the case's folder, that the command may write to.
        keeps: a folder of results that stay as they are, whatever happens, but for what commands add to it.
        may_take_long: whether a right command may train for longer than the limit.
    """

    arguments: list[str]
    may_change: tuple[str, ...] = ("run", "out")
    keeps: Path | None = None
    may_take_long: bool = False


@dataclass
class Outcome:
    """How a command ended.

    Attributes:
        status: "done", "refused" or "long"; or "fault".
        faults: what is wrong with that, in words.
        sentence: what a refused command said.
        trace: of an exception that nobody turned into a sentence.
        peak: bytes of memory used beyond those used before.
        seconds: of computing.
    """

    status: str
    faults: list[str] = field(default_factory=list)
    sentence: str = ""
    trace: str = ""
    peak: int = 0
    seconds: float = 0.0


def run_command(command: Command, world: World, folder: Path) -> Outcome:
    """Run `train.py` with these arguments inside this process, in a place of its own, and judge how it ends."""
    from pipelines.cli import main

    for name in ("cwd", "home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    before = digest_of(folder, skip=(*command.may_change, "tmp", "cwd", "streams"))
    kept = _results(command.keeps)
    out, err = io.StringIO(), io.StringIO()
    outcome = Outcome("done")
    start, clock = _reset_peak(), time.process_time()
    with (
        own_place(world, folder),
        _streams(folder / "streams"),
        _limited(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main([str(argument) for argument in command.arguments])
        except SystemExit as end:
            if end.code not in (0, None):
                outcome.status = "refused"
            if end.code not in (0, 2, None):
                outcome.faults.append(f"exit status {end.code!r}")
        except TooLong:
            outcome.status = "long"
            if not command.may_take_long:
                outcome.faults.append(f"still at work after {LIMIT} seconds of computing, or {WAIT} of waiting")
        except BaseException as error:
            outcome.trace = _brief_trace(error)
            outcome.faults.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    outcome.peak, outcome.seconds = max(0, _peak() - start), time.process_time() - clock
    if outcome.status == "refused":
        _judge_sentence(outcome, err.getvalue())
    written = out.getvalue() + err.getvalue() + (folder / "streams").read_text(errors="replace")
    if "Traceback (most recent call last)" in written:
        outcome.faults.append("a traceback on standard error")
    if outcome.peak > PEAK and not (command.may_take_long and outcome.status != "refused"):  # a large network may train
        outcome.faults.append(f"{outcome.peak / 2**20:.0f} MiB used")
    if digest_of(folder, skip=(*command.may_change, "tmp", "cwd", "streams")) != before:
        outcome.faults.append("something was written outside the run's folder")
    for name in ("tmp", "cwd"):
        left = sorted(str(p.relative_to(folder)) for p in (folder / name).rglob("*"))
        if left and outcome.status != "long" and (name == "tmp" or outcome.status == "refused"):
            outcome.faults.append(f"left behind: {', '.join(left[:5])}")
    if kept != _results(command.keeps):
        outcome.faults.append("earlier results were changed")
    if outcome.faults:
        outcome.status = "fault"
    return outcome


def _judge_sentence(outcome: Outcome, text: str) -> None:
    lines = text.split("\n")
    told = [line for line in lines if line.startswith("handful: ") and not line.startswith("handful: warning: ")]
    outcome.sentence = told[-1] if told else ""
    if len(told) != 1:
        outcome.faults.append(f"{len(told)} sentences: {text[-300:]!r}")
        return
    at = text.index(told[0])
    if text[at:].rstrip("\n") != told[0]:
        outcome.faults.append(f"more than one line: {text[at:][:300]!r}")
    if not told[0].isprintable():
        outcome.faults.append(f"marks that control the terminal: {told[0][:300]!r}")
    if len(told[0]) > LONGEST:
        outcome.faults.append(f"a sentence of {len(told[0])} characters")
    if len(told[0]) < len("handful: ") + 8:
        outcome.faults.append(f"no sentence: {told[0]!r}")


def _results(folder: Path | None) -> dict[str, bytes]:
    """What the phases of a run left."""
    if folder is None or not folder.is_dir():
        return {}
    names = ("best.ckpt", "last.ckpt", "done.json", "metrics.csv", "stages.json", "config.yaml", "results.json")
    return {
        str(p): p.read_bytes() for n in names for p in sorted((*folder.glob(n), *folder.glob(f"*/{n}"))) if p.is_file()
    }


def _brief_trace(error: BaseException) -> str:
    """The innermost frames, those of this project first of all."""
    frames = traceback.extract_tb(error.__traceback__)
    root = str(Path(__file__).parents[2])
    ours = [f for f in frames if f.filename.startswith(root) and "/tests/" not in f.filename][-4:]
    shown = [*ours, *[f for f in frames[-2:] if f not in ours]]
    return "\n".join(f"    {f.filename.removeprefix(root + '/')}:{f.lineno} {f.name}: {f.line}" for f in shown)


@contextlib.contextmanager
def own_place(world: World, folder: Path) -> Iterator[None]:
    """Working folder, home, folder for temporary files and state of the process as a fresh process has them."""
    environment, cwd, filters = dict(os.environ), Path.cwd(), warnings.filters[:]
    rank = getattr(rank_zero_only, "rank", 0)
    handlers = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    levels = logging.getLogger().level
    os.environ |= {
        "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "XDG_CACHE_HOME": str(world.cache),
        "MPLCONFIGDIR": str(world.cache), "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    tempfile.tempdir = None
    for name in ("cwd", "home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    os.chdir(folder / "cwd")
    try:
        yield
    finally:
        os.chdir(cwd)
        for name in (*_LAUNCHER, *os.environ):
            if name not in environment:
                os.environ.pop(name, None)
        os.environ.update(environment)
        tempfile.tempdir = None
        warnings.filters[:] = filters
        rank_zero_only.rank = rank
        for name, handler in handlers.items():
            signal.signal(name, handler)
        logging.getLogger().setLevel(levels)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        torch.use_deterministic_algorithms(False)
        torch.autograd.set_detect_anomaly(False)
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(1)
        plt.close("all")


@contextlib.contextmanager
def _streams(path: Path) -> Iterator[None]:
    """What reaches standard output and error past `sys`: of other processes, and of what was bound before."""
    with path.open("wb") as file:
        kept = {number: os.dup(number) for number in (1, 2)}
        for number in kept:
            os.dup2(file.fileno(), number)
        try:
            yield
        finally:
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """A limit on time and on memory."""
    timers = ((signal.SIGPROF, signal.ITIMER_PROF, LIMIT), (signal.SIGALRM, signal.ITIMER_REAL, WAIT))
    ended = False

    def over(number: int, frame: FrameType | None) -> None:
        if not ended:
            raise TooLong

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    old = {number: signal.signal(number, over) for number, _, _ in timers}
    running = {timer: signal.setitimer(timer, seconds, 2) for _, timer, seconds in timers}  # pytest's own limit, maybe
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + ROOM, hard))
    try:
        yield
    finally:
        ended = True
        for number, timer, _ in timers:
            signal.setitimer(timer, 0)
            signal.signal(number, old[number])
            signal.setitimer(timer, *running[timer])
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _status(key: str) -> int:
    """A number of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def _reset_peak() -> int:
    """Make the highest use of memory start from now; returns what is used now, in bytes."""
    gc.collect()
    gc.freeze()  # what is there now stays: the next collection looks at what came since
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def fresh(folder: Path) -> Path:
    """An empty folder at that place."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def shown(arguments: Sequence[str]) -> str:
    """Arguments such that a person can read them and Python can read them back."""
    return ascii(list(arguments))
