"""Rows of a long measurement that are kept, each under everything that decides it."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from handful.atomic import write_text

ROOT = Path(__file__).parents[1]


def code_digest(paths: Iterable[str | Path]) -> str:
    """First 16 hex digits of the SHA-256 of Python files: names, and what stands in them.

    Args:
        paths: files, or folders whose `*.py` are taken at all depths; relative ones from the repository's root.

    Example:
        >>> len(code_digest(["benchmarks"]))
        16
    """
    files: set[Path] = set()
    for path in (ROOT / path for path in paths):
        files |= set(path.rglob("*.py")) if path.is_dir() else {path}
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file.name}\0".encode())
        found.update(file.read_bytes())
    return found.hexdigest()[:16]


class KeptRows:
    """Numbers by name in a JSON file; a row is found again only where everything that decides it is the same.

    Args:
        path: the file; written after every row, so that a measurement can be interrupted and given again.
        decides: plain values that decide every row: weights, images, code. torch's version is added.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "rows.json"
        >>> KeptRows(path, images=4).row("cam", {}, lambda: {"insertion": 0.5})
        {'insertion': 0.5}
        >>> KeptRows(path, images=4).row("cam", {}, lambda: {"insertion": 0.9})  # kept
        {'insertion': 0.5}
        >>> KeptRows(path, images=8).row("cam", {}, lambda: {"insertion": 0.9})
        {'insertion': 0.9}
    """

    def __init__(self, path: Path, **decides: Any) -> None:
        self.path, self.decides = path, decides | {"torch": torch.__version__}
        self._rows: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.is_file() else {}

    def row(self, name: str, options: Any, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """The kept row of that name and these options, or a new one of `measure`."""
        key = json.dumps([name, options, self.decides], sort_keys=True)
        if key not in self._rows:
            self._rows[key] = measure()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(self._rows))
        return self._rows[key]
