"""A run's folder: its paths, records, digests and lock, for those who write it and those who read it."""

import csv
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from handful.atomic import DRAFT, sweep_drafts, write_json, write_text
from handful.errors import UserError
from handful.file_digest import file_digest

#: Kinds of files of a phase that others read, and that `done.json` holds digests of.
HANDED_OVER = {".ckpt", ".pt", ".json", ".csv", ".yaml", ".npz"}

#: Records about the phase itself, and files that commands add to a finished phase.
_NOT_HANDED_OVER = {"done.json", "started.json", "predictions.csv"}

#: Folders of a run that commands write, and that are no phases.
OF_COMMANDS = (
    "conformal", "explain", "export", "measures", "predict", "probe", "report", "summary", "tradeoff",
)  # fmt: skip

#: Hexadecimal digits that name a version of a phase in the records of later ones.
SHORT = 16

def folder_of_run(run_dir: str | None, name: str) -> Path:
    """The folder of a run: the one that is given, or `runs/<name>`."""
    return Path(run_dir or f"runs/{name}")


def read_json(path: Path, remedy: str) -> Any:
    """The content of a JSON file; None where there is no file.

    Args:
        path: of the file.
        remedy: what to do about a damaged one, for the sentence.

    Raises:
        UserError: it is no JSON file.
    """
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise UserError(f"{path}: not a JSON file ({' '.join(str(error).split())}); {remedy}") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def _is_files(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(v, dict) and isinstance(v.get("size"), int) and isinstance(v.get("sha256"), str)
        for v in value.values()
    )


def _is_rows(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(row, dict) and all(v is None or isinstance(v, str) or _is_cell(v) for v in row.values())
        for row in value.values()
    )


def _is_cell(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


_Check = Callable[[Any], bool]
_STARTED: dict[str, _Check] = {
    "config": _is_mapping, "made_from": _is_text_by_name, "started": _is_number, "seconds": _is_number,
}  # fmt: skip
_DONE: dict[str, _Check] = {
    "config": _is_mapping, "made_from": _is_text_by_name, "seconds": _is_number, "peak_memory_mib": _is_number,
}  # fmt: skip
_RESULTS: dict[str, _Check] = {
    "weights": lambda value: isinstance(value, str),
    "stages": _is_rows,
    "seconds": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    "peak_memory_mib": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    "versions": _is_text_by_name,
    "data": _is_mapping,
}


def _checked(path: Path, record: Any, required: Mapping[str, _Check], remedy: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise UserError(f"{path}: holds no record but {_kind(record)}; {remedy}")
    for name, fits in required.items():
        if name not in record or not fits(record[name]):
            how = "is missing" if name not in record else f"is {_kind(record[name])} that does not belong there"
            raise UserError(f"{path}: not a record written by Handful ({name!r} {how}); {remedy}")
    return record


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "a mapping", str: "text", int: "a number", float: "a number", bool: "a truth value"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


class PhaseFolder:
    """The folder of one phase.

    Args:
        path: of the folder; need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.last = self.path / "last.ckpt"
        self.best = self.path / "best.ckpt"
        self.config = self.path / "config.yaml"
        self.done_file = self.path / "done.json"
        self.started_file = self.path / "started.json"
        self.stages_file = self.path / "stages.json"
        self.metrics_file = self.path / "metrics.csv"

    def done(self) -> dict[str, Any] | None:
        """The record of a finished phase: `config`, `made_from`, `seconds`, `peak_memory_mib`, `files`; None if none.

        Raises:
            UserError: the file is no such record, or was changed.
        """
        remedy = f"remove it, and the phase {self.name} runs again"
        if not self.done_file.exists():
            return None
        record = _checked(self.done_file, read_json(self.done_file, remedy), _DONE, remedy)
        if "files" in record and not _is_files(record["files"]):
            raise UserError(f"{self.done_file}: not a record written by Handful ('files' names none); {remedy}")
        if "checksum" in record and record["checksum"] != _checksum(record):
            raise UserError(f"{self.done_file}: damaged or changed since it was written; {remedy}")
        return record

    def started(self) -> dict[str, Any] | None:
        """The record of a phase that was begun: `config`, `made_from`, `started`, `seconds`; None where there is none.

        Raises:
            UserError: the file is no such record.
        """
        remedy = f"remove it, and the phase {self.name} starts from its beginning"
        if not self.started_file.exists():
            return None
        return _checked(self.started_file, read_json(self.started_file, remedy), _STARTED, remedy)

    def stages(self) -> dict[str, dict[str, Any]]:
        """The rows that the phase wrote for `results.json`, by stage.

        Raises:
            UserError: the file holds no rows.
        """
        remedy = f"give --start_at {self.name} to run the phase again"
        if not self.stages_file.exists():
            return {}
        rows = read_json(self.stages_file, remedy)
        if not _is_rows(rows):
            raise UserError(f"{self.stages_file}: holds no rows of results; {remedy}")
        return dict(rows)

    def start(
        self, config: Mapping[str, Any], made_from: Mapping[str, str], seconds: float, started_from: str = ""
    ) -> None:
        """Record that the phase runs: how configured, on which earlier phases and weights, after how many seconds."""
        record = {
            "config": config,
            "made_from": made_from,
            "started": time.time(),
            "seconds": seconds,
            "started_from": started_from,
        }
        write_json(self.started_file, record)

    def finish(
        self,
        config: Mapping[str, Any],
        made_from: Mapping[str, str],
        seconds: float,
        memory: float,
        started_from: str = "",
    ) -> None:
        """Record, as the last step, that the phase is finished, with digests of all it hands over."""
        sweep_drafts(self.path)
        record: dict[str, Any] = {
            "config": config,
            "made_from": made_from,
            "seconds": round(seconds, 3),
            "peak_memory_mib": round(memory, 1),
            "finished": time.time(),
            "files": {
                file.name: {"size": file.stat().st_size, "sha256": file_digest(file)} for file in self._handed_over()
            },
        }
        if started_from:
            record["started_from"] = started_from
        write_json(self.done_file, record | {"checksum": _checksum(record)})

    def _handed_over(self) -> list[Path]:
        found = (file for file in self.path.iterdir() if file.suffix in HANDED_OVER and file.is_file())
        return sorted(file for file in found if file.name not in _NOT_HANDED_OVER)

    def verify(self) -> None:
        """Refuse the folder of a finished phase whose files are not those that the phase left.

        Folders written before digests were recorded are taken as they are.

        Raises:
            UserError: names the first file that is missing or was changed, and what to do.
        """
        for name, found in ((self.done() or {}).get("files") or {}).items():
            self._compare(name, found, whole=True)

    @property
    def holds_checkpoint(self) -> bool:
        """Whether the finished phase has left a `best.ckpt`, also where it has been deleted since."""
        return self.best.name in ((self.done() or {}).get("files") or {}) or self.best.is_file()

    def missing(self) -> list[str]:
        """Sentences about files of a finished phase that are gone or cut off; quick, by their sizes alone."""
        sentences = []
        for name, found in ((self.done() or {}).get("files") or {}).items():
            try:
                self._compare(name, found, whole=False)
            except UserError as error:
                sentences.append(str(error))
        return sentences

    def _compare(self, name: str, expected: Mapping[str, Any], whole: bool) -> None:
        file = self.path / name
        remedy = f"restore it, or give --start_at {self.name} to run the phase again"
        if Path(name).name != name or not file.is_file():
            raise UserError(f"{file}: is missing, though the phase finished with it; {remedy}")
        if file.stat().st_size != expected["size"] or (whole and file_digest(file) != expected["sha256"]):
            raise UserError(f"{file}: damaged or changed since the phase finished; {remedy}")

    def clear(self) -> None:
        """Remove the folder, its records first, so that half a folder is never taken for a phase."""
        for record in (self.done_file, self.started_file):
            record.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)


def _checksum(record: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in record.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def made_from(run: Path, phases: Sequence[str]) -> dict[str, str]:
    """The versions of earlier phases by the digests of their `done.json`: another training, another digest."""
    files = {name: run / name / "done.json" for name in phases}
    return {name: file_digest(file)[:SHORT] for name, file in files.items() if file.is_file()}


def read_results(run: Path) -> dict[str, Any]:
    """The content of `results.json`; empty while the run is not finished.

    Raises:
        UserError: the file is no such record.
    """
    path = run / "results.json"
    remedy = "remove it; the pipeline's command writes it again from the phases"
    if not path.exists():
        return {}
    record = read_json(path, remedy)
    there = {name: fits for name, fits in _RESULTS.items() if not isinstance(record, dict) or name in record}
    return _checked(path, record, there, remedy)


def read_table(path: Path, remedy: str) -> list[dict[str, str]]:
    """The rows of a CSV file by column, empty cells left out; no rows where there is no file.

    Raises:
        UserError: it is no CSV file.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (UnicodeDecodeError, csv.Error, IsADirectoryError) as error:
        raise UserError(f"{path}: not a CSV file ({error}); {remedy}") from error
    if any(None in row for row in rows):
        raise UserError(f"{path}: not a CSV file (a row is longer than the header); {remedy}")
    return [{name: cell for name, cell in row.items() if cell} for row in rows]


def read_metrics(path: Path, remedy: str) -> list[dict[str, float]]:
    """The rows of a `metrics.csv`: a number for every measure that was logged, and always its `step`.

    Raises:
        UserError: the file holds other things.
    """
    rows = []
    for place, row in enumerate(read_table(path, remedy), start=1):
        try:
            numbers = {name: _number(cell) for name, cell in row.items()}
        except ValueError as error:
            raise UserError(f"{path}: row {place} holds something other than numbers ({error}); {remedy}") from error
        if "step" not in numbers:
            raise UserError(f"{path}: row {place} has no step; {remedy}")
        rows.append(numbers)
    return rows


def _number(text: str) -> float:
    """A number as it was written: counts stay whole."""
    return int(text) if text.lstrip("-").isascii() and text.lstrip("-").isdigit() else float(text)


def wandb_id(folder: Path) -> str:
    """The identity of a phase's W&B run: the one that the phase began with, else a new one."""
    path = folder / "wandb_id"
    found = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", found):
        return found
    if found:
        rank_zero_warn(f"{path}: holds no identity of a W&B run; the dashboard gets a new run for this phase")
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
                rank_zero_warn(f"{path}: the file system has no locks ({error.strerror}); start no second run here")
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
