"""A run's folder as a whole: where it is, who may write to it, and what a killed run has left there."""

import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from handful.atomic import DRAFT, sweep_drafts, write_text
from handful.errors import UserError
from handful.record_files import read_text

#: Folders of a run that commands write, and that are not phases.
OF_COMMANDS = (
    "conformal", "explain", "export", "measures", "predict", "probe", "report", "summary", "tradeoff",
)  # fmt: skip


def folder_of_run(run_dir: str | None, name: str) -> Path:
    """The folder of a run: the one that is given, or `runs/<name>`."""
    return Path(run_dir or f"runs/{name}")


def _identity(path: Path) -> str | None:
    """The identity that a file holds; None where it holds none."""
    try:
        found = read_text(path).strip()
    except (OSError, ValueError):
        return None
    return found if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", found) else None


def wandb_id(folder: Path) -> str:
    """The identity of a phase's W&B run: the one that the phase began with, else a new one."""
    path = folder / "wandb_id"
    found = _identity(path)
    if found is not None:
        return found
    if path.is_file() and path.stat().st_size:
        _warn(f"{path}: holds no identity of a W&B run; the dashboard gets a new run for this phase")
    identity = secrets.token_hex(4)
    write_text(path, identity)
    return identity


@contextmanager
def lock(run: Path) -> Iterator[None]:
    """Keep other runs out of a folder while the block runs; the kernel releases the lock of a process that is killed.

    One process of a run holds it for all of them.

    Raises:
        UserError: another process holds it.
    """
    import fcntl

    path = run / ".lock"
    file = path.open("a+")
    try:
        while True:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UserError(
                    f"{run}: {holder} is running in this folder; wait until it has ended, or give another --run_dir"
                ) from error
            except OSError as error:  # a file system without locks
                _warn(f"{path}: the file system has no locks ({error.strerror}); start no second run here")
                break
            if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                break
            file.close()  # the holder before has removed the file that we waited for
            file = path.open("a+")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        file.close()


def sweep(run: Path, phases: Sequence[str]) -> None:
    """Remove what a killed run left behind: drafts, and old versions of phases that have been finished since.

    Only for the holder of the run's lock.
    """
    sweep_drafts(run)
    for name in (*phases, *OF_COMMANDS):
        folder, replaced = run / name, replaced_folder(run / name)
        if folder.is_dir():
            for draft in folder.rglob(f"*{DRAFT}"):
                if "wandb" not in draft.relative_to(folder).parts and draft.is_file():
                    draft.unlink(missing_ok=True)
        if name in phases and replaced.is_dir() and (folder / "done.json").is_file():
            shutil.rmtree(replaced, ignore_errors=True)


def replaced_folder(phase: Path) -> Path:
    """Where the old version of a phase is kept until the new one is finished."""
    return phase.with_name(f"{phase.name}.replaced")


def _warn(sentence: str) -> None:
    """Warn once over all ranks; Lightning is imported for it only, so that wrong options do not wait."""
    from lightning.pytorch.utilities import rank_zero_warn

    rank_zero_warn(sentence)
