"""The digest of a file, computed once per process while the file stays as it is."""

import hashlib
from pathlib import Path

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
