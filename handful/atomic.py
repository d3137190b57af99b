"""Files that are whole or absent: written beside their place, synced, and put there in one step."""

import contextlib
import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

#: How the names of drafts end; a killed writer leaves one.
DRAFT = ".tmp"

# File systems that cannot sync a folder say one of these.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES}


@contextmanager
def atomic(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file for writing that takes its place only when the block has ended without an error.

    A reader, or a process that is killed, meets the file before or the file after. The content is synced to the disk
    before it takes its place, and so is the folder afterwards.

    Args:
        path: of the file; its folder must exist.
        mode: `wb`, or `w` for UTF-8 text whose line ends stay as they are written.

    Raises:
        OSError: the file cannot be written; names it.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with atomic(file, "w") as stream:
        ...     _ = stream.write("1 2 3")
        >>> file.read_text()
        '1 2 3'
    """
    path = Path(path)
    draft = path.with_name(f"{path.name}.{os.getpid()}{DRAFT}")
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with draft.open(mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename not in (None, str(draft), draft):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name of a file survive a power cut."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic(path, "w") as file:
        file.write(text)


def json_text(value: Any) -> str:
    """Plain values as JSON that every reader takes: what is no finite number, which JSON does not have, is null.

    Example:
        >>> json_text([1.5, float("nan"), float("inf")]).split()
        ['[', '1.5,', 'null,', 'null', ']']
    """
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def write_json(path: str | Path, value: Any) -> None:
    """Write plain values as a JSON file atomically, as `json_text` has them."""
    write_text(path, json_text(value) + "\n")


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copy a file's content atomically."""
    with Path(source).open("rb") as content, atomic(target) as file:
        shutil.copyfileobj(content, file)


def sweep_drafts(folder: Path, recursive: bool = False) -> list[Path]:
    """Remove the drafts that a killed writer left in a folder; nobody else may be writing there.

    Returns:
        What was removed.
    """
    removed = []
    for draft in folder.rglob(f"*{DRAFT}") if recursive else folder.glob(f"*{DRAFT}"):
        if draft.is_file() or draft.is_symlink():
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()
                removed.append(draft)
    return removed
