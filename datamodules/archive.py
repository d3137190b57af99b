"""The files of a zip or tar archive, read where it lies: nothing is unpacked, so no name in it can lead elsewhere."""

import os
import re
import stat
import struct
import tarfile
import unicodedata
import warnings
import zipfile
import zlib
from abc import abstractmethod
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Generic, TypeVar

from datamodules.doubtful_folders import lies_in, without_clutter
from datamodules.file_tree import FileTree, below, check_size, digest, only_top, with_parents
from handful.errors import UserError
from handful.images.clutter import LeftOut, clutter, is_doubtful
from handful.text import safe_text

Entry = TypeVar("Entry")

# An entry that grows by more than this factor, and to more than so many bytes, is a bomb and no photograph.
_BOMB_FACTOR, _BOMB_BYTES = 200, 2**26
_NO_FILES = (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK)
#: Code pages of names that are not marked as UTF-8, in the order in which they are tried.
_KNOWN = ("utf-8", "cp932", "cp437", "cp1252")
_UTF8_FLAG, _ENCRYPTED_FLAG, _UNICODE_PATH = 0x800, 0x1, 0x7075


class Archive(FileTree, Generic[Entry]):
    """What archives share: tidy names, and an only folder at the top that is left out of the paths."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out = LeftOut()
        self._entries: dict[str, Entry] = {}
        self._folders: list[str] = []

    def _arrange(self, files: dict[str, Entry], folders: list[str]) -> None:
        """Take over entries by their tidy names."""
        self._entries = files
        gone = without_clutter(str(self.root), files, self.read, self.left_out)
        if gone:
            files = {path: entry for path, entry in files.items() if not lies_in(path, gone)}
            folders = [folder for folder in folders if not lies_in(folder, gone)]
        # those that hold files are added again
        folders = [folder for folder in folders if not is_doubtful(folder.rpartition("/")[2])]
        folders = with_parents((*folders, *(path.rpartition("/")[0] for path in files)))
        self.top = top = only_top(files, folders)
        self._entries = below(top, files, self.left_out)
        self._folders = [f.removeprefix(top) for f in folders if f.startswith(top)]

    def _put(self, files: dict[str, Entry], path: str, entry: Entry) -> None:
        """Take an entry; of several with one name the last counts, as when the archive is unpacked."""
        if path in files:
            self.left_out.add("replaced by later ones of the same name", path)
        files[path] = entry

    def _tidy(self, name: str) -> str | None:
        """Return a name as a path inside the archive; None, and counted, where it is clutter or leads outside."""
        path = name.replace("\\", "/").strip("/")
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts or (parts and parts[0].endswith(":")):
            self.left_out.add("with names that lead outside the archive", name)
            return None
        path = str(PurePosixPath(*parts)) if parts else ""
        reason = clutter(path) if path else None
        if reason is not None:
            self.left_out.add(reason, path)
            return None
        return path or None

    def folders(self) -> list[str]:
        """Return all folders, sorted."""
        return self._folders

    def files(self) -> list[str]:
        """Return all files, sorted."""
        return sorted(self._entries)

    @abstractmethod
    def size(self, path: str) -> int:
        """Return the number of bytes of a file, unpacked."""


class ZipArchive(Archive[zipfile.ZipInfo]):
    """The files of a zip archive. Loader processes each open it for themselves.

    Args:
        root: the file.

    Raises:
        UserError: it is not a zip archive, or is encrypted.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        entries = self._zip().infolist()
        files: dict[str, zipfile.ZipInfo] = {}
        folders: list[str] = []
        for entry, name in zip(entries, _names(entries, root), strict=True):
            path = self._tidy(name)
            if path is None:
                continue
            if entry.flag_bits & _ENCRYPTED_FLAG:
                raise UserError(f"{root} is encrypted: unpack it with its password and give the folder as data.root.")
            if entry.is_dir() or name.endswith("\\"):
                folders.append(path)
            elif stat.S_IFMT(entry.external_attr >> 16) in _NO_FILES:
                self.left_out.add("links or devices in the archive", path)
            else:
                self._put(files, path, entry)
        self._arrange(files, folders)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_opened": None}

    def read(self, path: str) -> bytes:
        """Return the content of a file; a `UserError` names one that cannot be read."""
        entry = self._entries[path]
        name = safe_text(f"{path} in {self.root}")
        check_size(name, entry.file_size)
        if entry.file_size > max(_BOMB_BYTES, _BOMB_FACTOR * entry.compress_size):
            raise UserError(f"{name} cannot be read: it unpacks to {entry.file_size / 2**20:.0f} MiB, possibly a bomb.")
        try:
            return self._zip().read(entry)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError,
                ValueError, struct.error) as error:  # fmt: skip
            raise UserError(f"{name} cannot be read: {safe_text(error)}.") from None

    def head(self, path: str, count: int) -> bytes:
        """Return the first bytes of a file; nothing of one that cannot be read."""
        try:
            with self._zip().open(self._entries[path]) as file:
                return file.read(count)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError,
                struct.error):  # fmt: skip
            return b""  # whoever needs the file is refused when it is read

    def fingerprint(self) -> str:
        """Return a digest of name, size and check sum of every file."""
        lines = [f"{path}\0{entry.file_size}\0{entry.CRC}" for path, entry in sorted(self._entries.items())]
        return digest(*lines)

    def size(self, path: str) -> int:
        """Return the number of bytes of a file, unpacked."""
        return self._entries[path].file_size

    def _zip(self) -> zipfile.ZipFile:
        # the position in an open file is shared with forked processes
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = os.getpid(), zipfile.ZipFile(self.root)
            except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
                raise UserError(
                    f"{self.root} is neither a folder nor a readable zip or tar archive: {safe_text(error)}."
                ) from None
        return self._opened[1]


def _names(entries: list[zipfile.ZipInfo], root: Path) -> list[str]:
    """Return the entries' names, decoded as their maker meant them.

    Names not marked as UTF-8 are in a code page that the archive does not name: macOS writes UTF-8 all the same,
    Windows in Japan cp932, others mostly cp437, which is the format's own, and some cp1252.
    """
    raw = [None if entry.flag_bits & _UTF8_FLAG else entry.orig_filename.encode("cp437") for entry in entries]
    unmarked = [name for name in raw if name is not None and not name.isascii()]
    encoding = next((e for e in _KNOWN if all(_decodes(name, e) for name in unmarked)), None)
    if encoding in ("cp437", "cp1252") and any(_is_japanese(part) for name in unmarked for part in name.split(b"/")):
        encoding = None  # in which any bytes are letters
    if encoding is None:
        _warn_of(unmarked, root)
    names = []
    for entry, name in zip(entries, raw, strict=True):
        text = entry.orig_filename if name is None else _decoded(name, encoding)
        names.append(_unicode_path(entry.extra) or text.split("\0")[0])
    return names


def _decoded(name: bytes, encoding: str | None) -> str:
    """A name in a code page; in that of each of its parts, which are those of other names too, where none fits all."""
    if encoding is not None:
        return name.decode(encoding)
    return "/".join(part.decode(_page_of(part) or "cp437") for part in name.split(b"/"))


def _is_japanese(part: bytes) -> bool:
    """Whether a part of a name is Japanese in cp932 by more than chance: it has kana or kanji in a row."""
    return _decodes(part, "cp932") and bool(re.search("[\u3040-\u30ff\u4e00-\u9fff]{2}", part.decode("cp932")))


def _page_of(part: bytes) -> str | None:
    return next((page for page in _KNOWN if _decodes(part, page)), None)


def _warn_of(names: list[bytes], root: Path) -> None:
    """Say that names are read by a guess: there are several code pages, or one that is not known."""
    parts = {part: _page_of(part) for name in names for part in name.split(b"/") if not part.isascii()}
    pages = {page: part.decode(page) for part, page in reversed(parts.items()) if page is not None}
    unknown = next((part for part, page in parts.items() if page is None), None)
    if unknown is None:
        some = ", ".join(f"{safe_text(part)} ({page})" for page, part in sorted(pages.items()))
        where = f"names such as {some} are in several code pages"
    else:
        where = f"names such as {safe_text(unknown.decode('cp437'))} are in a code page"
    warnings.warn(
        f"{safe_text(root)}: {where} that the archive does not name, and may read differently from what was meant; "
        "pack it again with names in UTF-8",
        stacklevel=4,
    )


def _decodes(name: bytes, encoding: str) -> bool:
    try:
        text = name.decode(encoding)
    except UnicodeDecodeError:
        return False
    if encoding == "utf-8":
        return True
    if encoding != "cp932":
        return not _is_garbled(text)
    # any other name may decode as cp932 by chance: only kana and kanji, none of them alone within a word, are Japanese
    foreign = [letter for letter in text if not letter.isascii()]
    return all("\u3040" <= letter <= "\u9fff" for letter in foreign) and not re.search(
        r"(?<![^\x00-\x7f])(?:[A-Za-z][^\x00-\x7f]|[^\x00-\x7f][A-Za-z])(?![^\x00-\x7f])", text
    )


#: Signs that names of files hold.
_SIGNS = "°²³±·½¼£¥µªº"


def _is_garbled(name: str) -> bool:
    """Whether a name holds what belongs to no word: signs, frames, or letters of several scripts."""
    foreign = [letter for letter in name if not letter.isascii()]
    scripts = {unicodedata.name(letter, "?").split(" ")[0] for letter in foreign if letter.isalpha()}
    if any(not (letter.isalpha() or letter in _SIGNS or unicodedata.combining(letter)) for letter in foreign):
        return True
    return len(scripts - {"HIRAGANA", "KATAKANA", "CJK", "FULLWIDTH"}) > 1 or bool(
        scripts & {"GREEK", "CYRILLIC"} and re.search("[A-Za-z]", name.rpartition(".")[0] or name)
    )


def _unicode_path(extra: bytes) -> str | None:
    """Return the UTF-8 name in an entry's extra field, where its maker added one."""
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        if kind == _UNICODE_PATH and 5 < size <= len(extra) - 4:
            return extra[9 : 4 + size].decode("utf-8", "replace")
        extra = extra[4 + size :]
    return None


class TarArchive(Archive[tarfile.TarInfo]):
    """The files of an uncompressed tar archive.

    Args:
        root: as given, and as named in messages.
        content: the uncompressed archive; `root` itself if not given.

    Raises:
        UserError: it is not a tar archive.
    """

    def __init__(self, root: Path, content: Path | None = None) -> None:
        super().__init__(root)
        self._content = content or root
        files: dict[str, tarfile.TarInfo] = {}
        folders: list[str] = []
        try:
            with tarfile.open(self._content, "r:") as archive:
                for entry in archive:
                    path = self._tidy(entry.name)
                    if path is None:
                        continue
                    if entry.isdir():
                        folders.append(path)
                    elif entry.islnk():  # the same file under a second name
                        target = files.get(entry.linkname.removeprefix("./"))
                        self._keep(files, path, target)
                    else:
                        self._keep(files, path, entry if entry.isreg() and not entry.issparse() else None)
        except (tarfile.TarError, OSError, EOFError, ValueError, struct.error) as error:
            raise UserError(f"{root} is not a readable tar archive: {safe_text(error)}.") from None
        self._arrange(files, folders)

    def _keep(self, files: dict[str, tarfile.TarInfo], path: str, entry: tarfile.TarInfo | None) -> None:
        if entry is None:
            self.left_out.add("links or devices in the archive", path)
        else:
            self._put(files, path, entry)

    def read(self, path: str) -> bytes:
        """Return the content of a file; a `UserError` names one that cannot be read."""
        name = safe_text(f"{path} in {self.root}")
        size = self.size(path)
        check_size(name, size)
        content = self.head(path, size)
        if len(content) < size:
            raise UserError(f"{name} cannot be read: the archive ends before it does.")
        return content

    def head(self, path: str, count: int) -> bytes:
        """Return the first bytes of a file."""
        entry = self._entries[path]
        try:
            with self._open() as file:
                file.seek(entry.offset_data)
                return file.read(min(count, entry.size))
        except OSError as error:
            raise UserError(f"{self.root} cannot be read: {error.strerror}.") from None

    def _open(self) -> BinaryIO:
        return self._content.open("rb")

    def fingerprint(self) -> str:
        """Return a digest of the archive's time of writing, and of name, size, place and time of every file."""
        lines = [f"{path}\0{e.size}\0{e.offset_data}\0{e.mtime}" for path, e in sorted(self._entries.items())]
        return digest(str(self.root.stat().st_mtime_ns), *lines)

    def size(self, path: str) -> int:
        """Return the number of bytes of a file."""
        return self._entries[path].size
