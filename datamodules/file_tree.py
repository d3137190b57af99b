"""The files of a data set, in a folder or in an archive that is read where it lies."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from handful.errors import UserError
from handful.images.clutter import LeftOut
from handful.images.formats import is_image_name

_Value = TypeVar("_Value")

#: Folder names that stand for a split, in lower case.
SPLIT_NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "trainset", "train_set"),
    "val": ("val", "valid", "validate", "validation", "dev", "valset", "val_set"),
    "test": ("test", "testing", "tst", "testset", "test_set"),
}

_DOCUMENT = re.compile(
    r"(read.?me|licen[cs]e|copying|copyright|citation|notice|changelog|terms)\b.*|.*\.(md|rst|pdf|html?|url|docx?|rtf)",
    re.IGNORECASE,
)

#: Ends of the names of archives, in lower case.
ARCHIVE_SUFFIXES = (
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".7z", ".rar", ".tar.zst"
)  # fmt: skip

#: Largest file that is read into memory, in bytes; and the largest that is, where it need not be.
LARGEST_FILE, HELD_FILE = 2**30, 2**24


def _is_document(name: str) -> bool:
    return bool(_DOCUMENT.fullmatch(name)) and not is_image_name(name) and not name.lower().endswith((".csv", ".tsv"))


class FileTree(ABC):
    """Files by their path inside the tree, with `/` between folders; known clutter is not among them.

    Attributes:
        root: the folder or archive.
        top: the path of only folders that was entered, and that the files' paths leave out; "" where there is none.
        left_out: what is not among the files, by reason.
    """

    root: Path
    left_out: LeftOut
    top: str = ""

    @abstractmethod
    def folders(self) -> list[str]:
        """Return all folders, sorted."""

    @abstractmethod
    def files(self) -> list[str]:
        """Return all files, sorted."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return the content of a file; a `UserError` names one that cannot be read."""

    def source(self, path: str) -> bytes | Path:
        """Return the content of a file, or where it lies on disk if it is large; a `UserError` as `read`."""
        return self.read(path)

    @abstractmethod
    def head(self, path: str, count: int) -> bytes:
        """Return the first bytes of a file; nothing of one that cannot be read."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a short text that changes when files are added, removed or rewritten."""

    @abstractmethod
    def size(self, path: str) -> int:
        """Return the number of bytes of a file."""

    def top_folders(self) -> list[str]:
        """Return the folders that lie in no other."""
        return [folder for folder in self.folders() if "/" not in folder]


def split_of(name: str) -> str | None:
    """Return the split that a folder's or a table's name stands for: "train", "val", "test", or None.

    Example:
        >>> split_of("Training"), split_of("validation"), split_of("owl")
        ('train', 'val', None)
    """
    lower = name.strip().lower()
    return next((split for split, names in SPLIT_NAMES.items() if lower in names), None)


#: Words beside that of the split that a folder's name may hold, and all that the name of a folder of folders says.
_FILLERS = {"data", "dataset", "datasets", "folder", "image", "images", "img", "imgs", "photos", "pictures", "set",
            "split"}  # fmt: skip


def splits_of(names: Iterable[str], with_images: Collection[str] = ()) -> dict[str, str]:
    """Return which of some folders side by side are splits, and which split each is.

    Where the names that `split_of` knows are not "train" and another split, names count that also hold words such as
    "images" (`train_images`), numbers (`1_train`), or other words that are the same for several splits (`birds_train`
    and `birds_test`): if they, with those that `split_of` knows, are "train" and another split, each of them once, and
    no other folder that does not share these words holds images; or if there is one folder alone.

    Args:
        names: of the folders.
        with_images: those of them that hold images, at any depth.

    Example:
        >>> splits_of(["Training Set", "test-images", "notes"]), splits_of(["train", "test", "test_images"])
        ({'Training Set': 'train', 'test-images': 'test'}, {'train': 'train', 'test': 'test'})
        >>> splits_of(["seg_train", "seg_test", "seg_pred"]), splits_of(["090.train", "012.bus"])
        ({'seg_train': 'train', 'seg_test': 'test'}, {})
        >>> splits_of(["1_train", "2_test", "3_owl"], with_images=["1_train", "2_test", "3_owl"])
        {}
    """
    names = list(names)
    exact = {name: split for name in names if (split := split_of(name))}
    if _are_train_and_another(exact):
        return exact
    like: dict[tuple[str, ...], dict[str, str]] = {(): dict(exact)}
    others = {name: _other_words(name) for name in names}
    for name in names:
        splits = [split for word in _words(name) if (split := split_of(word))]
        if name not in exact and len(splits) == 1:
            like.setdefault(others[name], {})[name] = splits[0]
    several = []
    for words, found in like.items():
        beside = {name for name in with_images if name not in found and not (words and {*words} <= {*others[name]})}
        once = len(set(found.values())) == len(found)
        alone = len(names) == 1 and "train" in found.values()
        if alone or (_are_train_and_another(found) and once and not beside):
            several.append(found)
    return several[0] if len(several) == 1 else exact


def _are_train_and_another(found: Mapping[str, str]) -> bool:
    return "train" in found.values() and len(set(found.values())) > 1


def _other_words(name: str) -> tuple[str, ...]:
    """Words of a folder's name beside those of splits and those that say nothing."""
    return tuple(word for word in _words(name) if word not in _FILLERS and not split_of(word))


def is_wrapper(name: str, above: str) -> bool:
    """Whether a folder in another only repeats its name, or has a name that says nothing, such as `images`.

    Example:
        >>> is_wrapper("images", "train"), is_wrapper("train", "train"), is_wrapper("owl", "train")
        (True, True, False)
    """
    return name.lower() == above.lower() or not set(_words(name)) - _FILLERS


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def only_top(files: Iterable[str], folders: Iterable[str]) -> str:
    """Return the path of folders that hold one folder each and nothing else, from the top; "" where there is none.

    Archives, and folders made by unpacking them, often have such a folder, and beside it a read-me or a licence. It
    ends before a folder that is a split and before one that holds no folders, which is a class.
    """
    files, folders = [path for path in files if not _is_document(path.rpartition("/")[2])], list(folders)
    prefix = ""
    while True:
        inside = {path[len(prefix) :].split("/")[0] for path in (*files, *folders) if path.startswith(prefix)} - {""}
        (only, *others) = inside or {""}
        deeper = f"{prefix}{only}/"
        if others or not only or split_of(only) or not any(folder.startswith(deeper) for folder in folders):
            return prefix
        prefix = deeper


def below(top: str, files: Mapping[str, _Value], left_out: LeftOut) -> dict[str, _Value]:
    """Return the files below the only folder by their paths in it; documents beside it are counted as left out."""
    for path in files:
        if not path.startswith(top):
            left_out.add("that are not images", path)
    return {path.removeprefix(top): value for path, value in files.items() if path.startswith(top)}


def with_parents(folders: Iterable[str]) -> list[str]:
    """Return folders and all that they lie in, sorted."""
    found: set[str] = set()
    for folder in folders:
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return sorted(found)


def contents_of(tree: FileTree, paths: Iterable[str]) -> str:
    """Return a short text of the files' names and sizes; a copy in another folder, or an archive of them, shares it."""
    return digest(*(f"{path}\0{tree.size(path)}" for path in paths))


def digest(*lines: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of lines."""
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def check_size(name: str, size: int) -> None:
    """Refuse a file that is too large to be read into memory.

    Raises:
        UserError: it is.
    """
    if size > LARGEST_FILE:
        raise UserError(f"{name} cannot be read: it has {size / 2**30:.1f} GiB, more than one image may have.")
