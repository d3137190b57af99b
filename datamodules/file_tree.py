"""The files of a data set, in a folder or in a zip archive that is read where it lies."""

import hashlib
import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Protocol

from handful.errors import UserError


class FileTree(Protocol):
    """Files by their path inside the tree, with `/` between folders."""

    root: Path

    def folders(self) -> list[PurePosixPath]:
        """Return all folders, sorted."""

    def files(self) -> list[PurePosixPath]:
        """Return all files, sorted."""

    def read(self, path: PurePosixPath) -> bytes:
        """Return the content of a file."""

    def fingerprint(self) -> str:
        """Return a short text that changes when files are added, taken away or written anew."""


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
        self._stats: dict[PurePosixPath, os.stat_result] = {}
        self._folders: list[PurePosixPath] = []
        for place, folders, files in os.walk(root, followlinks=True):
            folders[:] = sorted(name for name in folders if not _is_hidden(name))
            here = PurePosixPath(Path(place).relative_to(root).as_posix())
            self._folders += [here / name for name in folders]
            for name in files:
                if not _is_hidden(name):
                    self._stats[here / name] = self._stat(Path(place) / name)

    @staticmethod
    def _stat(path: Path) -> os.stat_result:
        try:
            return path.stat()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from None

    def folders(self) -> list[PurePosixPath]:
        return sorted(self._folders)

    def files(self) -> list[PurePosixPath]:
        return sorted(self._stats)

    def read(self, path: PurePosixPath) -> bytes:
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            raise UserError(f"{self.root / path} cannot be read: {error.strerror}.") from None

    def fingerprint(self) -> str:
        lines = [f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}" for path, stat in sorted(self._stats.items())]
        return _digest(str(self.root.resolve()), *lines)


class Archive:
    """The files of a zip archive, read where it lies: nothing is unpacked, so no name in it can lead elsewhere.

    An only folder at the top, which many archives have, is left out of the paths. Loader processes each open the
    archive for themselves.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        entries = self._zip().infolist()
        known = [(entry, PurePosixPath(entry.filename)) for entry in entries if not _is_clutter(entry.filename)]
        tops = {path.parts[0] for _, path in known}
        inside = len(tops) == 1 and all(len(path.parts) > 1 or entry.is_dir() for entry, path in known)
        if inside and tops & {"train", "test"}:
            inside = False
        short = [(entry, PurePosixPath(*path.parts[inside:])) for entry, path in known]
        self._entries = {path: entry for entry, path in short if not entry.is_dir()}
        folders = {parent for path in self._entries for parent in path.parents}
        folders |= {path for entry, path in short if entry.is_dir()}
        self._folders = sorted(folders - {PurePosixPath(".")})

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_opened": None}

    def folders(self) -> list[PurePosixPath]:
        return self._folders

    def files(self) -> list[PurePosixPath]:
        return sorted(self._entries)

    def read(self, path: PurePosixPath) -> bytes:
        try:
            return self._zip().read(self._entries[path])
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
            raise UserError(f"{path} in {self.root} cannot be read: {error}.") from None

    def fingerprint(self) -> str:
        lines = [f"{path}\0{entry.file_size}\0{entry.CRC}" for path, entry in sorted(self._entries.items())]
        return _digest(*lines)

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


def _is_clutter(filename: str) -> bool:
    parts = PurePosixPath(filename).parts
    return not parts or parts[0] == "__MACOSX" or any(_is_hidden(part) for part in parts)


def _digest(*lines: str) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
