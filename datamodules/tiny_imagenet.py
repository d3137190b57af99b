"""Tiny ImageNet: 200 classes of 64 × 64 pixels, tested on its validation images."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

from datamodules.locate import Files, numbers
from datamodules.official import OfficialData
from handful.errors import UserError
from handful.images import Box, is_image_name
from handful.text import safe_text

_IDS, _WORDS, _VAL = "wnids.txt", "words.txt", "val/val_annotations.txt"


class TinyImageNet(OfficialData):
    """Tiny ImageNet: 100,000 training images, and 10,000 of validation to test on.

    The labels of the official test images are secret. The validation images may lie in `val/images`, as distributed, or
    in a folder per class, as many scripts leave them.
    Its annotations are boxes.

    Args:
        root: the unpacked folder `tiny-imagenet-200`, one above it, or the archive.
        image_size: side of the images in pixels, 64 as they are.
        **kwargs: see `OfficialData` and `ImageFolder`.

    Source: Le and Yang, "Tiny ImageNet Visual Recognition Challenge" (Stanford CS231N, 2015).
    """

    title = "Tiny ImageNet"
    download = "tiny-imagenet-200.zip from http://cs231n.stanford.edu/tiny-imagenet-200.zip"
    markers = (_IDS, _WORDS)
    official: ClassVar[Mapping[str, int]] = {"classes": 200, "train": 100_000, "test": 10_000}

    def __init__(self, root: str, image_size: int = 64, **kwargs: Any) -> None:
        super().__init__(root, image_size=image_size, **kwargs)

    def counts_as_image(self, path: str) -> bool:
        """The test images have no labels."""
        return not path.removeprefix(self.files.base).startswith("test/")

    def table(self, files: Files) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
        """Read classes and splits."""
        ids = sorted(line.strip() for line in files.lines(_IDS) if line.strip())
        for wnid, other in pairwise(ids):
            if wnid == other:
                raise UserError(f"{files.shown(_IDS)}: the class {safe_text(wnid)} is named twice; unpack it again.")
        if not all(map(str.isprintable, ids)):
            raise UserError(f"{files.shown(_IDS)}: a line is no class; the file seems to be damaged, unpack it again.")
        number = {wnid: label for label, wnid in enumerate(ids)}
        train = []
        for name in files.names("train/"):
            wnid = name.split("/")[1]
            if is_image_name(name):
                if wnid not in number:
                    raise UserError(f"{files.shown(name)}: the class {wnid} is not in {_IDS}; unpack it again.")
                train.append((name, number[wnid]))
        in_folders = [name for name in files.names("val/") if is_image_name(name) and name.split("/")[1] in number]
        test = [(name, number[name.split("/")[1]]) for name in in_folders]
        if not in_folders or files.find(_VAL) is not None:
            sorted_in = {name.rpartition("/")[2] for name in in_folders}
            for line, (image, wnid, *_) in files.rows(_VAL, 6):
                if wnid not in number:
                    raise UserError(f"{files.shown(_VAL)}, line {line}: the class {wnid} is not in {_IDS}.")
                if image not in sorted_in:  # a script that sorts them may have been interrupted
                    test.append((f"val/images/{image}", number[wnid]))
        words = {cells[0]: cells[1].split(",")[0] for _, cells in files.rows(_WORDS, 2)}
        unnamed = [wnid for wnid in ids if wnid not in words]
        if unnamed:
            raise UserError(f"{files.shown(_WORDS)} has no line for the class {unnamed[0]}: unpack it again.")
        titles = [words[wnid] for wnid in ids]
        return [f"{t} {wnid}" if titles.count(t) > 1 else t for t, wnid in zip(titles, ids, strict=True)], {
            "train": train,
            "test": test,
        }

    def boxes(self) -> Mapping[str, Box]:
        """Boxes around the objects, of the training images, and of the test images as far as their table is there."""
        found: dict[str, Box] = {}
        tables = [(name, 5) for name in self.files.names("train/") if name.endswith("_boxes.txt")]
        if self.files.find(_VAL) is not None:
            tables.append((_VAL, 6))
        images = [name for split in ("train/", "val/") for name in self.files.names(split) if is_image_name(name)]
        by_name = {name.rpartition("/")[2]: name for name in images}  # scripts move them between folders
        for table, columns in tables:
            shown = self.files.shown(table)
            for line, (image, *cells) in self.files.rows(table, columns):
                edges = numbers(cells[-4:], shown, line)
                path = self.files.find(by_name.get(image, f"{table.rpartition('/')[0]}/images/{image}"))
                if path is not None:
                    found[path] = (edges[0], edges[1], edges[2] + 1, edges[3] + 1)
        return found

    def has_boxes(self, split: str) -> bool:
        """Whether the tables of a split are there: scripts that move the images leave some behind."""
        if split == "test":
            return self.files.find(_VAL) is not None
        return any(name.endswith("_boxes.txt") for name in self.files.names("train/"))
