"""The files of a folder."""

import os
import stat
from pathlib import Path

from datamodules.doubtful_folders import lies_in, without_clutter
from datamodules.file_tree import HELD_FILE, FileTree, below, check_size, digest, only_top, with_parents
from handful.errors import UserError
from handful.images import is_image_name
from handful.images.clutter import LeftOut, clutter, is_doubtful
from handful.text import safe_text


class Folder(FileTree):
    """The files of a folder, through symbolic links too.

    A folder whose only content is another one is entered (see `only_top`). A link that leads back to a folder it lies
    in is left out, as is what is not a regular file. An image that a link promises and that is not there is among the
    files, so that whoever reads it is refused by name.

    Args:
        root: the folder.

    Raises:
        UserError: a folder cannot be listed.
    """

    def __init__(self, root: Path) -> None:
        self.left_out = LeftOut()
        self._stats: dict[str, os.stat_result] = {}
        self._broken: dict[str, str] = {}
        self._folders: list[str] = []
        self._walk(root)
        self._leave_out_clutter(root)
        self.top = inner = only_top((*self._stats, *self._broken), self._folders)
        self.root = root / inner if inner else root
        self._stats = below(inner, self._stats, self.left_out)
        self._broken = below(inner, self._broken, self.left_out)
        self._folders = [f.removeprefix(inner) for f in self._folders if f.startswith(inner)]

    def _walk(self, root: Path) -> None:
        above: dict[str, frozenset[tuple[int, int]]] = {}
        for place, folders, files in os.walk(root, followlinks=True, onerror=_refuse):
            own = os.stat(place)
            chain = above.pop(place, frozenset()) | {(own.st_dev, own.st_ino)}
            here = Path(place).relative_to(root).as_posix() + "/"
            here = here.removeprefix("./")
            folders[:] = [name for name in sorted(folders) if self._enters(root, here + name, chain)]
            for name in folders:
                above[os.path.join(place, name)] = chain
                self._folders.append(here + name)
            for name in sorted(files):
                self._add(root, here + name)

    def _leave_out_clutter(self, root: Path) -> None:
        files = [*self._stats, *self._broken]
        gone = without_clutter(str(root), files, lambda path: root / path, self.left_out)
        if gone:
            self._stats = {path: found for path, found in self._stats.items() if not lies_in(path, gone)}
            self._broken = {path: why for path, why in self._broken.items() if not lies_in(path, gone)}
        with_files = {*with_parents({path.rpartition("/")[0] for path in (*self._stats, *self._broken)})}
        empty = {f for f in self._folders if is_doubtful(f.rpartition("/")[2])} - with_files
        self._folders = [folder for folder in self._folders if not lies_in(folder, empty)]

    def _enters(self, root: Path, path: str, chain: frozenset[tuple[int, int]]) -> bool:
        reason = clutter(path, folder=True)
        if reason is None and is_doubtful(path.rpartition("/")[2]) and not _is_readable(root / path):
            reason = "thumbnails and system files"  # as `lost+found` is at the top of a disk
        if reason is None:
            target = os.stat(root / path)
            if (target.st_dev, target.st_ino) not in chain:
                return True
            reason = "symbolic links that lead in a circle"
        self.left_out.add(reason, path + "/")
        return False

    def _add(self, root: Path, path: str) -> None:
        reason = clutter(path)
        if reason is not None:
            self.left_out.add(reason, path)
            return
        try:
            found = os.stat(root / path)
        except OSError as error:
            if is_image_name(path):
                self._broken[path] = error.strerror or str(error)
            else:
                self.left_out.add("links to nothing", path)
            return
        if stat.S_ISREG(found.st_mode):
            self._stats[path] = found
        else:
            self.left_out.add("files that are not regular", path)

    def folders(self) -> list[str]:
        """Return all folders, sorted."""
        return sorted(self._folders)

    def files(self) -> list[str]:
        """Return all files, sorted."""
        return sorted((*self._stats, *self._broken))

    def read(self, path: str) -> bytes:
        """Return the content of a file; a `UserError` names one that cannot be read."""
        file = self.root / path
        try:
            check_size(safe_text(file), self.size(path))
            return file.read_bytes()
        except OSError as error:
            raise UserError(f"{safe_text(file)} cannot be read: {error.strerror}.") from None

    def source(self, path: str) -> bytes | Path:
        """Return the content of a file, or its path if it is large; a `UserError` names one that cannot be read."""
        if self.size(path) <= HELD_FILE:
            return self.read(path)
        check_size(safe_text(self.root / path), self.size(path))
        return self.root / path

    def head(self, path: str, count: int) -> bytes:
        """Return the first bytes of a file; nothing of one that cannot be read."""
        try:
            with (self.root / path).open("rb") as file:
                return file.read(count)
        except OSError:  # whoever needs the file is refused when it is read
            return b""

    def fingerprint(self) -> str:
        """Return a digest of the place, and of name, size and time of writing of every file."""
        lines = [f"{path}\0{found.st_size}\0{found.st_mtime_ns}" for path, found in sorted(self._stats.items())]
        lines += [f"{path}\0broken" for path in sorted(self._broken)]
        return digest(str(self.root.resolve()), *lines)

    def size(self, path: str) -> int:
        """Return the number of bytes of a file; 0 of one that is not there."""
        found = self._stats.get(path)
        return found.st_size if found is not None else self._size_elsewhere(path)

    def _size_elsewhere(self, path: str) -> int:
        """Return the size of a file that a table of labels names and that may lie outside the folder."""
        try:
            return (self.root / path).stat().st_size
        except OSError:
            return 0


def _is_readable(folder: Path) -> bool:
    try:
        with os.scandir(folder):
            return True
    except PermissionError:
        return False


def _refuse(error: OSError) -> None:
    raise UserError(f"{safe_text(error.filename)} cannot be read: {error.strerror}.")
