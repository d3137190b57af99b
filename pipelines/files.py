"""Files that are whole or not there."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handful.errors import UserError


def write_atomically(path: Path, text: str) -> None:
    """Write a text file such that a reader, or a run cut short, never meets half of it."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file such that half of it is never met."""
    temporary = target.with_name(target.name + ".tmp")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def digest(path: Path) -> str:
    """Sixteen letters that two files share if they hold the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def made_from(run: Path, phases: Sequence[str]) -> dict[str, str]:
    """What a phase after these stands on, by the content of their `done.json`: another training, another hand-over."""
    files = {name: run / name / "done.json" for name in phases}
    return {name: digest(file) for name, file in files.items() if file.is_file()}


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON record of ours; None where there is none.

    Raises:
        UserError: the file is no record.
    """
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        if not {"config", "made_from"} <= set(record):
            raise ValueError("keys are missing")
    except ValueError as error:
        raise UserError(f"{path}: not a record of a phase ({error}); remove it to run the phase anew") from error
    return record
