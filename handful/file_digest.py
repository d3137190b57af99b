"""Digests: of a file, computed once per process while the file stays as it is, and of a record."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_known: dict[tuple[str, int, int, int], str] = {}


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits.

    Args:
        path: read whole, unless it was before and has the same inode, size and time of change.

    Raises:
        OSError: it cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a").write_bytes(b"abc")
        ...     file_digest(Path(folder) / "a")[:8]
        'ba7816bf'
    """
    stat = path.stat()
    key = (str(path.absolute()), stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if key not in _known:
        with path.open("rb") as file:
            _known[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _known[key]


def record_checksum(record: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON record in hexadecimal digits, without its own entry `checksum`.

    Example:
        >>> record_checksum({"a": 1}) == record_checksum({"checksum": "x", "a": 1})
        True
    """
    rest = {name: value for name, value in record.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
