"""The folder of one phase: its files, its records, and digests of what it hands over."""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handful.atomic import sweep_drafts, write_json
from handful.errors import UserError
from handful.file_digest import file_digest, record_checksum
from pipelines.records import DONE, STARTED, checked, is_files, is_rows, read_json

#: Kinds of files of a phase that others read, and that `done.json` holds digests of.
HANDED_OVER = {".ckpt", ".pt", ".json", ".csv", ".yaml", ".npz"}

#: Records about the phase itself, what its dashboards show, and files that commands add to a finished phase.
_NOT_HANDED_OVER = {"done.json", "started.json", "shown.json", "predictions.csv"}

#: Hexadecimal digits that name a version of a phase in the records of later ones.
SHORT = 16


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
        record = checked(self.done_file, read_json(self.done_file, remedy), DONE, remedy)
        if "files" in record and not is_files(record["files"]):
            raise UserError(f"{self.done_file}: not a record written by Handful ('files' names none); {remedy}")
        if "checksum" in record and record["checksum"] != record_checksum(record):
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
        return checked(self.started_file, read_json(self.started_file, remedy), STARTED, remedy)

    def stages(self) -> dict[str, dict[str, Any]]:
        """The rows that the phase wrote for `results.json`, by stage.

        Raises:
            UserError: the file holds no rows.
        """
        remedy = f"give --start_at {self.name} to run the phase again"
        if not self.stages_file.exists():
            return {}
        rows = read_json(self.stages_file, remedy)
        if not is_rows(rows):
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
        write_json(self.done_file, record | {"checksum": record_checksum(record)})

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


def made_from(run: Path, phases: Sequence[str]) -> dict[str, str]:
    """The versions of earlier phases by the digests of their `done.json`: another training, another digest."""
    files = {name: run / name / "done.json" for name in phases}
    return {name: file_digest(file)[:SHORT] for name, file in files.items() if file.is_file()}
