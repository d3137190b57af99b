"""Which images of a data set belong to which split and class."""

import difflib
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.file_tree import ARCHIVE_SUFFIXES, FileTree, is_wrapper, split_of, splits_of
from handful.errors import UserError
from handful.images import Box, is_image_name, looks_like_image
from handful.images.clutter import LeftOut
from handful.images.formats import HEAD
from handful.text import safe_text

SPLITS = ("train", "val", "test")

_SHOWN = 10


@dataclass(frozen=True)
class Listing:
    """The image files of a data set.

    Attributes:
        tree: where the files are.
        class_names: names of the classes, sorted.
        files: (path, label) of every image, by split, sorted by class and name. Without "test" or "val", these are to
            be drawn from "train".
        left_out: files that are not images of a split and class, by reason.
        key: what the listing depends on beside the tree, as a short text; "" for folders.
        boxes: by path, the part of the picture that is used, where that is not all of it.
    """

    tree: FileTree
    class_names: list[str]
    files: dict[str, list[tuple[str, int]]]
    left_out: LeftOut
    key: str = ""
    boxes: Mapping[str, Box] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of images in all splits."""
        return sum(map(len, self.files.values()))

    def label(self, split: str, number: int) -> int:
        """Return the label of an image."""
        return self.files[split][number][1]

    def shown(self, split: str, number: int) -> str:
        """Return the path of an image as it stands in messages."""
        return safe_text(self.tree.root / self.files[split][number][0])


def list_folders(tree: FileTree) -> Listing:
    """List the images in class folders, with splits or without.

    Layouts: `train/<class>/…` with `test/<class>/…`, `val/<class>/…` or neither, or `<class>/…`. Folders of splits may
    also be called training, valid, validation, testing and the like, in any case. Names that differ only in their
    Unicode form (NFC, NFD) are one class.

    Raises:
        UserError: a root that is one level too high or too low, fewer than two classes, a class without images, classes
            that differ between splits.
    """
    left_out = LeftOut()
    left_out.update(tree.left_out)
    images, packed = [], []
    for path in tree.files():
        if is_image_name(path) or looks_like_image(tree.head(path, HEAD)):
            images.append(path)
        elif path.lower().endswith(ARCHIVE_SUFFIXES):
            packed.append(path)
            left_out.add("archives, which are not unpacked", path)
        else:
            left_out.add("that are not images", path)
    try:
        splits = _split_folders(tree, images)
        classes = _in_splits(tree, images, splits, left_out) if splits else _in_root(tree, images, left_out)
        _check(tree.root, classes, {split: name for name, split in splits.items()})
    except UserError as error:
        if packed:
            raise UserError(f"{error} {_advice(packed)}") from None
        raise
    names = sorted(classes["train"])
    files = {
        split: [(path, label) for label, name in enumerate(names) for path in classes[split][name]]
        for split in SPLITS
        if split in classes
    }
    return Listing(tree, names, files, left_out)


def _advice(packed: list[str]) -> str:
    """Return what to do with archives among the files, as a sentence."""
    if len(packed) == 1:
        return f"It holds the archive {safe_text(packed[0])}: unpack it, or give it as data.root."
    return (
        f"It holds {len(packed):,} archives, such as {safe_text(packed[0])}: unpack each into a folder of its own name."
    )


def _split_folders(tree: FileTree, images: Collection[str]) -> dict[str, str]:
    """Return the folders at the top that are splits, with the split that each is; none where the top holds classes."""
    with_classes = {folder.split("/")[0] for folder in tree.folders() if "/" in folder}
    holding = {path.split("/")[0] for path in images if "/" in path}
    named = splits_of(tree.top_folders(), holding)
    found = {top: split for top, split in named.items() if top in with_classes or top not in holding}
    if not set(found) & with_classes:
        # folders of splits without classes in them, unless other folders show that these are classes themselves
        if named and not holding - set(named):
            (name, *_) = named
            raise UserError(
                f"{safe_text(tree.root / name)} has 0 class folders; at least two are needed, with the images in them."
            )
        return {}
    for split in SPLITS:
        same = [top for top, its in found.items() if its == split]
        if len(same) > 1:
            raise UserError(
                f"data.root {safe_text(tree.root)} has two folders for {split} images: {' and '.join(same)}."
            )
    if "train" not in found.values():
        raise UserError(
            f"data.root {safe_text(tree.root)} has no folder train/ with a folder of images for each class."
        )
    return found


def _in_splits(
    tree: FileTree, images: Collection[str], splits: dict[str, str], left_out: LeftOut
) -> dict[str, dict[str, list[str]]]:
    """Return paths by split and class below folders of splits."""
    found: dict[str, dict[str, list[str]]] = {split: {} for split in splits.values()}
    inner = {top: _inner(tree, top) for top in splits}
    for folder in tree.folders():
        top = folder.partition("/")[0]
        if top in splits and folder.startswith(inner[top]):
            found[splits[top]].setdefault(class_name(folder.removeprefix(inner[top]).split("/")[0]), [])
    others: dict[str, set[str]] = {}
    for path in images:
        top = path.partition("/")[0]
        inside = path.removeprefix(inner.get(top, f"{top}/")).split("/") if "/" in path else []
        if top in splits and len(inside) > 1:
            found[splits[top]][class_name(inside[0])].append(path)
        else:
            where = "outside class folders" if top in splits else "outside train/, val/ and test/"
            left_out.add(f"images {where}", path)
            others.setdefault(top, set()).add(class_name(inside[0]) if len(inside) > 1 else "")
    for top, names in sorted(others.items()):
        if top not in splits and "test" not in found and names & set(found["train"]):
            raise UserError(
                f"data.root {safe_text(tree.root)} has no folder test/ with a folder of images for each class. "
                f"If {safe_text(top)}/ is meant, rename it; if not, move it elsewhere to have test images drawn."
            )
    return found


def _inner(tree: FileTree, top: str) -> str:
    """Return the path of the folder of a split that holds the classes, with a `/`: tools put it into others."""
    inner = f"{top}/"
    folders = [folder for folder in tree.folders() if folder.startswith(inner)]
    pictures = [path for path in tree.files() if path.startswith(inner) and is_image_name(path)]
    while True:
        only, *others = {path.removeprefix(inner).partition("/")[0] for path in (*folders, *pictures)} or {""}
        holds_folders = any(folder.startswith(f"{inner}{only}/") for folder in folders)
        if others or not holds_folders or not (is_wrapper(only, top) or split_of(only) == split_of(top) is not None):
            return inner
        inner += f"{only}/"
        folders = [folder for folder in folders if folder.startswith(inner)]


def _in_root(tree: FileTree, images: Collection[str], left_out: LeftOut) -> dict[str, dict[str, list[str]]]:
    """Return paths by class, all as training images, where class folders lie at the top."""
    _check_level(tree, images)
    found: dict[str, list[str]] = {class_name(folder): [] for folder in tree.top_folders()}
    for path in images:
        top, *inside = path.split("/")
        if inside:
            found[class_name(top)].append(path)
        else:
            left_out.add("images outside class folders", path)
    return {"train": found}


def _check_level(tree: FileTree, images: Collection[str]) -> None:
    """Refuse a root that lies above or below the one that is meant, as far as folder names show it."""
    root = safe_text(tree.root)
    beside = sorted(p.name for p in _siblings(tree.root) if split_of(p.name))
    if split_of(tree.root.name) and len(beside) > 1:
        raise UserError(
            f"data.root {root} is one of {', '.join(beside)}: give the folder that holds them, "
            f"{safe_text(tree.root.parent)}."
        )
    if not tree.folders():
        what = f"{len(images)} images" if images else "no images"
        hint = f" If {safe_text(tree.root.parent)} holds the class folders, give that." if images else ""
        table = next((file for file in tree.files() if file.lower().endswith((".csv", ".tsv"))), None)
        if table and images:
            hint = f" If {safe_text(table)} lists the classes, set data.labels to {safe_text(tree.root / table)}."
        raise UserError(f"data.root {root} has {what} and no class folders.{hint}")
    deeper: dict[str, set[str]] = {}
    for path in images:
        top, *inside = path.split("/")
        if len(inside) > 1 and split_of(inside[0]):
            deeper.setdefault(top, set()).add(inside[0])
    splits = {split_of(name) for names in deeper.values() for name in names}
    if "train" in splits and len(splits) > 1:
        top, names = sorted(deeper.items())[0]
        raise UserError(
            f"data.root {root} is one level too high: {safe_text(top)}/ holds {' and '.join(sorted(names))} itself; "
            f"give {safe_text(tree.root / top)}, or put the classes into train/ and test/."
        )
    deep = only_pictured(images)
    if deep:
        table = next((file for file in tree.files() if file.lower().endswith((".csv", ".tsv"))), None)
        hint = f" If {safe_text(table)} lists the classes, give {safe_text(tree.root / table)}." if table else ""
        raise UserError(
            f"data.root {root} is too high: all images lie in {safe_text(deep)}/; give {safe_text(tree.root / deep)}."
            f"{hint}"
        )


def only_pictured(images: Collection[str]) -> str:
    """Return the folder, below the top, that holds all images in several folders; "" where there is none."""
    inner = ""
    while True:
        tops = {path.removeprefix(inner).partition("/")[0] for path in images if "/" in path.removeprefix(inner)}
        loose = any("/" not in path.removeprefix(inner) for path in images)
        if loose or len(tops) != 1:
            return inner.rstrip("/") if len(tops) > 1 and not loose else ""
        inner += f"{tops.pop()}/"


def _siblings(root: Path) -> list[Path]:
    """Return the folders beside a folder, itself included; none for an archive."""
    if not root.is_dir():
        return []
    try:
        return [path for path in root.resolve().parent.iterdir() if path.is_dir()]
    except OSError:  # a parent that may not be listed reveals nothing
        return []


def class_name(folder: str) -> str:
    """Return the class that a folder's name stands for: one, however its accents are composed."""
    return unicodedata.normalize("NFC", folder)


def is_utf8(name: str) -> bool:
    """Whether a name from the file system is UTF-8: tables, pages and loggers could not hold any other."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check(root: Path, classes: dict[str, dict[str, list[str]]], folders: dict[str, str]) -> None:
    """Refuse classes of which nothing can be learned, or which differ between splits."""

    def where(split: str, name: str = "") -> str:
        return safe_text(root / folders.get(split, "") / name)

    wrong = sorted(name for split in classes.values() for name in split if not is_utf8(name))
    if wrong:
        raise UserError(
            f"The class folder {safe_text(wrong[0])} in {safe_text(root)} has a name that is not UTF-8; rename it, "
            "for example with convmv."
        )
    if len(classes["train"]) < 2:
        raise UserError(f"{where('train')} has {len(classes['train'])} class folders; at least two are needed.")
    for split, found in classes.items():
        differing = sorted(set(classes["train"]) ^ set(found))
        if differing:
            raise UserError(
                " ".join(_differs(name, split, classes, where) for name in differing[:_SHOWN])
                + (f" And {len(differing) - _SHOWN} more classes." if len(differing) > _SHOWN else "")
            )
    empty = [
        where(split, name) for split, found in classes.items() for name, files in sorted(found.items()) if not files
    ]
    if empty:
        more = f"; nor have {len(empty) - 1} others, such as {empty[1]}" if len(empty) > 1 else ""
        raise UserError(f"The class folder {empty[0]} has no image in it{more}.")


def _differs(name: str, split: str, classes: dict[str, dict[str, list[str]]], where: Callable[[str], str]) -> str:
    here, there = (split, "train") if name in classes[split] else ("train", split)
    near = difflib.get_close_matches(name, classes[there], 1, 0.8)
    hint = f"; is {near[0]!r} the same" if near else ""
    return f"The class {name!r} is in {where(here)}, but not in {where(there)}{hint}."
