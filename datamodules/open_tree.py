"""From `data.root` to the files of a data set."""

import difflib
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path

from datamodules.archive import TarArchive, ZipArchive
from datamodules.cache import Cache
from datamodules.file_tree import ARCHIVE_SUFFIXES, FileTree, digest
from datamodules.folder import Folder
from handful.errors import UserError
from handful.file_kinds import special_kind
from handful.images.formats import HEAD, looks_like_image
from handful.text import safe_text

# How files begin that are no zip or tar archive, and what they are.
_KINDS = (
    (b"7z\xbc\xaf", "it is a 7z archive: unpack it and give the folder"),
    (b"Rar!", "it is a RAR archive: unpack it and give the folder"),
    (b"\x28\xb5\x2f\xfd", "it is compressed by Zstandard: unpack it and give the folder"),
    (b"version https://git-lfs", "it is a pointer of Git LFS in the place of the file: run git lfs pull"),
    (b"PK\x03\x04", "it ends early, or is one of several parts: download it again, or unpack the parts together"),
)
_OFFICE = (".xlsx", ".ods", ".docx", ".odt", ".numbers")

# A compressed tar archive that grows by more than this factor, and to more than so many bytes, is a bomb.
_BOMB_FACTOR, _BOMB_BYTES = 200, 2**30
_CHUNK = 2**22


def open_tree(root: str | Path, cache: Cache) -> FileTree:
    """Return the files under `root`, a folder or a zip or tar archive.

    A compressed tar archive, in which no file can be reached without unpacking all before it, is decompressed once
    into the cache.

    Raises:
        UserError: there is nothing there, or it is neither.
    """
    path = Path(root).expanduser()
    if path.is_dir():
        tree: FileTree = Folder(path)
    elif path.is_file():
        tree = _archive(path, cache)
    elif kind := special_kind(path):
        raise UserError(f"data.root {safe_text(path)} is {kind}: give a folder of class folders or an archive.")
    else:
        raise UserError(f"data.root {safe_text(path)} does not exist.{_nearest(path)}")
    nested = [file for file in tree.files() if file.lower().endswith(ARCHIVE_SUFFIXES)]
    if len(nested) > 1 and len(nested) == len(tree.files()):
        raise UserError(
            f"data.root {safe_text(path)} holds {len(nested):,} other archives, such as {safe_text(nested[0])}: unpack "
            "each into a folder of its own name, and give the folder that holds these as data.root."
        )
    if nested and len(nested) == len(tree.files()):
        raise UserError(
            f"data.root {safe_text(path)} holds another archive, {safe_text(nested[0])}: give that one as data.root"
            f"{'' if path.is_dir() else ', unpacked from the outer one'}."
        )
    return tree


def _archive(path: Path, cache: Cache) -> FileTree:
    if path.suffix.lower() in _OFFICE:
        raise UserError(f"data.root {safe_text(path)} is a document: save the table of labels as CSV in UTF-8.")
    if zipfile.is_zipfile(path):
        return ZipArchive(path)
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith((b"\x1f\x8b", b"\xfd7zXZ", b"BZh")):
        return TarArchive(path, _decompressed(path, cache))
    if tarfile.is_tarfile(path):
        return TarArchive(path)
    if looks_like_image(head):
        raise UserError(f"data.root {safe_text(path)} is one image: give the folder that holds the class folders.")
    what = next((what for mark, what in _KINDS if head.startswith(mark)), "")
    if not head:
        what = "it is empty: download it again"
    elif head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        what = "it is a web page in the place of the file: download it again"
    elif not what and path.suffix.lower() in (".txt", ".json", ".jsonl", ".xml", ".yaml", ".parquet"):
        what = "a table of labels is a CSV file whose name ends with .csv or .tsv"
    raise UserError(f"{safe_text(path)} is neither a folder nor a readable zip or tar archive{what and f': {what}'}.")


def _decompressed(path: Path, cache: Cache) -> Path:
    """Return the decompressed content of a compressed tar archive, kept in the cache."""
    found = path.stat()

    def make(draft: Path) -> None:
        with (draft / "content.tar").open("wb") as file:
            for chunk in _unpacked(path, max(_BOMB_BYTES, _BOMB_FACTOR * found.st_size)):
                file.write(chunk)

    key = f"tar-{digest(str(path.resolve()), str(found.st_size), str(found.st_mtime_ns))}"
    return cache.entry(key, make) / "content.tar"


def _unpacked(path: Path, limit: int) -> Iterator[bytes]:
    """Yield the decompressed content of a file piece by piece.

    Raises:
        UserError: it is damaged, or grows beyond `limit` bytes.
    """
    total = 0
    try:
        with tarfile.open(path, "r:*") as archive:
            source = archive.fileobj
            assert source is not None
            source.seek(0)
            while total <= limit and (chunk := source.read(_CHUNK)):
                total += len(chunk)
                yield chunk
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        # Python lists what each method of opening has met, in lines
        reason = "it is compressed, but holds no tar archive" if "\n" in str(error) else safe_text(error)
        raise UserError(f"{safe_text(path)} is not a readable tar archive: {reason}.") from None
    if total > limit:
        raise UserError(
            f"{safe_text(path)} unpacks to more than {limit / 2**30:.0f} GiB, possibly a bomb: "
            "unpack it by hand and give the folder if it is meant."
        )


def _nearest(path: Path) -> str:
    """Return a hint at a neighbour of nearly the same name, as the end of a message."""
    neighbours = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, neighbours, 1, 0.7)
    return f" Is {path.parent / near[0]} meant?" if near else ""
