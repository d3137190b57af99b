"""The files of a data set, in a folder or in a zip archive that is read where it lies."""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from handful.errors import UserError


class FileTree(Protocol):
    """Files by their path inside the tree, with `/` between folders."""

    root: Path

    def folders(self) -> list[str]:
        """Return all folders, sorted."""

    def files(self) -> list[str]:
        """Return all files, sorted."""

    def read(self, path: str) -> bytes:
        """Return the content of a file."""

    def fingerprint(self) -> str:
        """Return a short text that changes when files are added, taken away or written anew."""

    def size(self, path: str) -> int:
        """Return the number of bytes of a file."""


def open_tree(root: str | Path) -> FileTree:
    """Return the files under `root`, a folder or a `.zip` archive.

    Raises:
        UserError: there is nothing there, or it is neither.
    """
    path = Path(root).expanduser()
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Archive(path)
    raise UserError(f"data.root {path} does not exist.")


class Folder:
    """The files of a folder; hidden ones are left out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._stats: dict[str, os.stat_result] = {}
        self._folders: list[str] = []
        for place, folders, files in os.walk(root, followlinks=True):
            folders[:] = sorted(name for name in folders if not _is_hidden(name))
            here = Path(place).relative_to(root).as_posix() + "/"
            here = here.removeprefix("./")
            self._folders += [here + name for name in folders]
            for name in files:
                if not _is_hidden(name):
                    self._stats[here + name] = self._stat(Path(place) / name)

    @staticmethod
    def _stat(path: Path) -> os.stat_result:
        try:
            return path.stat()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from None

    def folders(self) -> list[str]:
        """Return all folders, sorted."""
        return sorted(self._folders)

    def files(self) -> list[str]:
        """Return all files, sorted."""
        return sorted(self._stats)

    def read(self, path: str) -> bytes:
        """Return the content of a file; a `UserError` names one that cannot be read."""
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            raise UserError(f"{self.root / path} cannot be read: {error.strerror}.") from None

    def fingerprint(self) -> str:
        """Return a digest of the place, and of name, size and time of writing of every file."""
        lines = [f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}" for path, stat in sorted(self._stats.items())]
        return _digest(str(self.root.resolve()), *lines)

    def size(self, path: str) -> int:
        """Return the number of bytes of a file."""
        return self._stats[path].st_size


class Archive:
    """The files of a zip archive, read where it lies: nothing is unpacked, so no name in it can lead elsewhere.

    An only folder at the top, which many archives have, is left out of the paths. Loader processes each open the
    archive for themselves.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        entries = {name: entry for entry in self._zip().infolist() if (name := _tidy(entry.filename))}
        top = next(iter(entries), "").split("/")[0]
        if top not in ("train", "val", "test") and all(name == top or name.startswith(top + "/") for name in entries):
            entries = {name.removeprefix(top).removeprefix("/"): entry for name, entry in entries.items()}
        self._entries = {name: entry for name, entry in entries.items() if not entry.is_dir()}
        folders = {name for name, entry in entries.items() if entry.is_dir()}
        inner = {name.rpartition("/")[0] for name in self._entries}
        while inner - folders:
            folders |= inner
            inner = {name.rpartition("/")[0] for name in inner}
        self._folders = sorted(folders - {""})

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_opened": None}

    def folders(self) -> list[str]:
        """Return all folders, sorted."""
        return self._folders

    def files(self) -> list[str]:
        """Return all files, sorted."""
        return sorted(self._entries)

    def read(self, path: str) -> bytes:
        """Return the content of a file; a `UserError` names one that cannot be read."""
        try:
            return self._zip().read(self._entries[path])
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
            raise UserError(f"{path} in {self.root} cannot be read: {error}.") from None

    def fingerprint(self) -> str:
        """Return a digest of name, size and check sum of every file."""
        lines = [f"{path}\0{entry.file_size}\0{entry.CRC}" for path, entry in sorted(self._entries.items())]
        return _digest(*lines)

    def size(self, path: str) -> int:
        """Return the number of bytes of a file, unpacked."""
        return self._entries[path].file_size

    def _zip(self) -> zipfile.ZipFile:
        # the position in an open file is shared with forked processes
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = os.getpid(), zipfile.ZipFile(self.root)
            except (zipfile.BadZipFile, OSError) as error:
                raise UserError(f"{self.root} is neither a folder nor a readable zip archive: {error}.") from None
        return self._opened[1]


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _tidy(filename: str) -> str:
    """Return the name without the slash that ends a folder's; empty for hidden files and what macOS adds."""
    clutter = filename.startswith((".", "__MACOSX/")) or "/." in filename
    return "" if clutter else filename.rstrip("/")


def contents_of(tree: FileTree, paths: Iterable[str]) -> str:
    """Return a short text of the files' names and sizes; a copy at another place, and an archive of them, shares it."""
    return _digest(*(f"{path}\0{tree.size(path)}" for path in paths))


def _digest(*lines: str) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
