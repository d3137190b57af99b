"""Published data sets as their authors distribute them: found, and checked against the official numbers."""

import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from datamodules.file_tree import digest
from datamodules.image_folder import ImageFolder
from datamodules.listing import SPLITS, Listing
from datamodules.locate import Files, locate, open_published
from datamodules.placed import PlacedAnnotations
from datamodules.problems import refuse
from handful.annotations import Annotations
from handful.errors import UserError
from handful.images import Box, is_image_name
from handful.images.clutter import LeftOut
from handful.images.placement import is_empty
from handful.text import safe_text

_WORDS = {"train": "training", "val": "validation", "test": "test"}


class OfficialData(ImageFolder):
    """A data set whose own files say which image is of which class and split.

    Args:
        root: the unpacked folder, one above it, or the archive as downloaded.
        complete: refuse a copy without the official number of classes and images; false takes a part of it.
        crop_to_box: use the part of each picture inside its box only, where the data set has boxes.
        val_fraction: share of each class's training images to validate on where there is no official validation split;
            the published recipes use none.
        repeats: see `ImageFolder`; official splits hold some pictures twice, which "warn" keeps.
        **kwargs: see `ImageFolder`.

    Raises:
        UserError: when the images are first asked for: with what to download, and where to put it.
    """

    #: What it is called, and what is to be downloaded from where.
    title: ClassVar[str] = ""
    download: ClassVar[str] = ""
    #: Files by which its folder is known, and without which nothing can be read.
    markers: ClassVar[tuple[str, ...]] = ()
    #: The official number of classes, and of images by split.
    official: ClassVar[Mapping[str, int]] = {}

    def __init__(
        self,
        root: str,
        complete: bool = True,
        crop_to_box: bool = False,
        val_fraction: float = 0.0,
        repeats: Any = "warn",
        **kwargs: Any,
    ) -> None:
        super().__init__(root, val_fraction=val_fraction, repeats=repeats, **kwargs)
        if self.labels is not None:
            raise UserError(f"data.labels: {self.title} has labels of its own.")
        self.complete = complete
        self.seed_draws_images = val_fraction > 0
        self.crop_to_box = crop_to_box

    # -- what a data set says -------------------------------------------------------------------------------------

    @abstractmethod
    def table(self, files: Files) -> "tuple[list[str], dict[str, list[tuple[str, int]]]]":
        """Return class names by label, and by split the images' names in the data set with their labels.

        Images whose name `files.find` does not know are refused by the caller.
        """

    def boxes(self) -> Mapping[str, Box]:
        """Return boxes around the objects by path in the tree; none by default."""
        return {}

    def parts(self) -> "tuple[list[str], Mapping[str, Any]] | None":
        """Return names of the parts, and by path x, y and visibility of each; none by default."""
        return None

    def has_boxes(self, split: str) -> bool:
        """Whether every image of a split belongs into the boxes, if there are any."""
        return True

    def used_boxes(self) -> Mapping[str, Box]:
        """Return the part of each picture that is used, by path; all of it where there is no entry."""
        if not self.crop_to_box:
            return {}
        boxes = self.boxes()
        if not boxes:
            raise UserError(f"data.crop_to_box: {safe_text(self.root)} has no file of boxes.")
        return boxes

    # -- the listing ----------------------------------------------------------------------------------------------

    @cached_property
    def files(self) -> Files:
        """The data set's files by their official names."""
        tree = open_published(self.root, self.cache, self.how_to_get())
        return locate(tree, self.root, self.title, self.markers, self.how_to_get())

    def how_to_get(self) -> str:
        """Return what to download from where, and what to give as data.root, as a sentence."""
        return f"Download {self.download}, and give the unpacked folder as data.root."

    @cached_property
    def listing(self) -> Listing:
        """The images that the data set's own files name."""
        names, splits = self.table(self.files)
        tree = self.files.tree
        found: dict[str, list[tuple[str, int]]] = {}
        missing: list[str] = []
        for split, rows in splits.items():
            for name, label in rows:
                path = self.files.find(name)
                if path is None:
                    missing.append(f"There is no image {safe_text(name)} in {self.files.shown()}.")
                else:
                    found.setdefault(split, []).append((path, label))
        again = f"{self.title} is only partly unpacked, or its files are renamed: unpack it again. {self.how_to_get()}"
        refuse(missing, again, self.cache)
        self._check(names, found)
        files = {s: sorted(found[s], key=lambda file: (file[1], file[0])) for s in SPLITS if s in found}
        left_out = LeftOut()
        left_out.update(tree.left_out)
        used: set[str] = set()
        for path, _ in (row for rows in files.values() for row in rows):
            if path in used:
                raise UserError(f"{safe_text(tree.root / path)} is named twice by the tables of {self.title}: unpack "
                                f"it again. {self.how_to_get()}")  # fmt: skip
            used.add(path)
        for path in tree.files():
            if path not in used and is_image_name(path) and self.counts_as_image(path):
                left_out.add(f"images that are not in the tables of {self.title}", path)
        boxes = self._complete(self.used_boxes(), files)
        key = digest(*(f"{path} {label}" for rows in files.values() for path, label in rows),
                     *(f"{path} {box}" for path, box in sorted(boxes.items())))  # fmt: skip
        return Listing(tree, names, files, left_out, key, boxes)

    def _complete(self, boxes: Mapping[str, Box], files: Mapping[str, Sequence[tuple[str, int]]]) -> Mapping[str, Box]:
        """Return boxes, refused where an image has none though others do, and warned of where they are empty."""
        for split, rows in files.items() if boxes else ():
            without = next((path for path, _ in rows if path not in boxes), None)
            if without is not None and self.has_boxes(split):
                raise UserError(f"There is no box of {safe_text(self.files.tree.root / without)}, as there is of other "
                                f"images of {self.title}: unpack it again. {self.how_to_get()}")  # fmt: skip
        empty = [path for path, box in boxes.items() if is_empty(box)]
        if empty:
            warnings.warn(f"{len(empty):,} boxes of {self.title} hold nothing, such as that of {safe_text(empty[0])}: "
                          "all of the picture is taken in their place", stacklevel=2)  # fmt: skip
        return boxes

    def counts_as_image(self, path: str) -> bool:
        """Whether a file that no table names is an image of the data set, rather than a mask or a sample."""
        return True

    def _check(self, names: Sequence[str], found: Mapping[str, Sequence[tuple[str, int]]]) -> None:
        """Refuse what differs from the official numbers, and classes that cannot be learned or tested."""
        counts = {"classes": len(names)} | {split: len(rows) for split, rows in found.items()}
        if self.complete and counts != dict(self.official):
            raise UserError(
                f"{self.files.shown()} has {_counted(counts)}, where {self.title} has {_counted(self.official)}: "
                f"unpack it again, or set data.complete to false for a part of it. {self.how_to_get()}"
            )
        for split in ("train", "test"):
            if not found.get(split):
                raise UserError(f"{self.files.shown()} has no {_WORDS[split]} image of {self.title}.")
        trained = Counter(label for _, label in found["train"])
        without = [name for label, name in enumerate(names) if not trained[label]]
        if without or len(names) < 2:
            what = f"no training image of the class {without[0]!r}" if without else f"{len(names)} classes"
            raise UserError(f"{self.files.shown()} has {what}.")

    # -- annotations ----------------------------------------------------------------------------------------------

    def annotations(self, split: str) -> Annotations:
        """Return boxes and parts of the images of a split, where the data set has them."""
        boxes, parts = self._complete(self.boxes(), self.listing.files), self.parts()
        known = PlacedAnnotations(self, split, boxes, parts)
        return Annotations(parts=known if parts else None, boxes=known if boxes else None)


def in_class_folders(files: Files) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
    """Return class folders and images of a data set that has `train/<class>/…` and `test/<class>/…`; see `table`."""
    found: dict[str, list[tuple[str, str]]] = {
        split: [
            (name, name.split("/")[1])
            for name in files.names(f"{split}/")
            if name.count("/") == 2 and is_image_name(name)
        ]
        for split in ("train", "test")
    }
    folders = sorted({folder for rows in found.values() for _, folder in rows})
    number = {folder: label for label, folder in enumerate(folders)}
    return folders, {split: [(name, number[folder]) for name, folder in rows] for split, rows in found.items()}


def _counted(counts: Mapping[str, int]) -> str:
    images = [f"{counts[split]:,} {_WORDS[split]}" for split in SPLITS if split in counts]
    return f"{counts['classes']:,} classes and {', '.join(images) or 'no'} images"
