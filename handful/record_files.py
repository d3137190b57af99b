"""Records, tables and configs: text files that are read whole, and therefore only where they are small files."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

from handful.file_kinds import special_kind

#: A larger file is not a record: what JSON and YAML make of it would take up to 25 times as much memory.
MAX_BYTES = 2**25

#: A larger file is not a config.
MAX_CONFIG = 2**20

#: A table with more cells is none that a run or a person has written to be read whole.
MAX_CELLS = 4_000_000


def read_text(path: Path, encoding: str = "utf-8", max_bytes: int = MAX_BYTES) -> str:
    """The text of a small file.

    Args:
        path: of the file.
        encoding: of the text.
        max_bytes: a larger file is refused unread.

    Raises:
        ValueError: a folder, a pipe or a device, a file that is too large, or text in another encoding; the reason
            alone, for a sentence that names the file.
        OSError: there is no such file, or it must not be read.

    Example:
        >>> read_text(Path("/dev/zero"))
        Traceback (most recent call last):
        ValueError: it is a device
    """
    return read_bytes(path, max_bytes).decode(encoding)


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The content of a small file.

    Args:
        path: of the file.
        max_bytes: a larger file is refused unread.

    Raises:
        ValueError: a folder, a pipe or a device, or a file that is too large.
        OSError: as `read_text`.

    Example:
        >>> read_bytes(Path("/"))
        Traceback (most recent call last):
        ValueError: it is a folder
    """
    kind = "a folder" if path.is_dir() else special_kind(path)
    if kind:
        raise ValueError(f"it is {kind}")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ValueError(f"{size / 2**20:,.1f} MiB, where at most {max_bytes >> 20} are expected")
        return file.read(max_bytes)


def read_json(path: Path) -> Any:
    """The value in a small JSON file.

    Raises:
        ValueError: no JSON, or as `read_text`.
        OSError: as `read_text`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "a.json"
        ...     _ = file.write_text('{"stages": [1, 2]}')
        ...     read_json(file)
        {'stages': [1, 2]}
    """
    try:
        return json.loads(read_text(path))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_rows(path: Path, encoding: str = "utf-8") -> list[list[str]]:
    """The rows of a small CSV file, the header among them; blank lines are left out.

    Raises:
        ValueError: no CSV, more than `MAX_CELLS` cells, or as `read_text`.
        OSError: as `read_text`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "a.csv"
        ...     _ = file.write_text("class,score")
        ...     read_rows(file)
        [['class', 'score']]
    """
    rows: list[list[str]] = []
    cells = 0
    try:
        for row in csv.reader(io.StringIO(read_text(path, encoding), newline=""), strict=True):
            cells += 1 + len(row)
            if cells > MAX_CELLS:
                raise ValueError(f"more than {MAX_CELLS:,} cells")
            if row:
                rows.append(row)
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return rows
