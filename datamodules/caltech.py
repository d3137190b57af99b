"""The tables that CUB-200-2011 and NABirds share: one line per image, by its number or name."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from datamodules.locate import Files, numbers
from datamodules.official import OfficialData
from handful.errors import UserError, did_you_mean
from handful.images import Box

IMAGES, LABELS, SPLIT, CLASSES = "images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt"
BOXES, PARTS, PART_PLACES = "bounding_boxes.txt", "parts/parts.txt", "parts/part_locs.txt"


class CaltechTables(OfficialData):
    """A data set in the form of Caltech's birds: text tables beside a folder `images`."""

    markers = (IMAGES, LABELS, SPLIT, CLASSES)

    def table(self, files: Files) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
        """Read which image is of which class and split."""
        named = {cells[0]: cells[1] for _, cells in files.rows(CLASSES, 2)}
        labels, is_train = (self._by_image(files, name) for name in (LABELS, SPLIT))
        paths = self._by_image(files, IMAGES)
        used = sorted({label for image, label in labels.items() if image in paths}, key=_by_number)
        unknown = [label for label in used if label not in named]
        if unknown:
            raise UserError(
                f"{files.shown(CLASSES)} has no class {unknown[0]}, which {files.shown(LABELS)} names: unpack the data "
                "set again."
            )
        number = {label: place for place, label in enumerate(used)}
        splits: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
        for image, path in paths.items():
            for name, known in ((LABELS, labels), (SPLIT, is_train)):
                if image not in known:
                    raise UserError(f"{files.shown(name)} has no line for image {image} of {IMAGES}: unpack it again.")
            if is_train[image] not in ("0", "1"):
                raise UserError(f"{files.shown(SPLIT)}: {is_train[image]!r} where 0 or 1 belongs, for image {image}.")
            splits["train" if is_train[image] == "1" else "test"].append((f"images/{path}", number[labels[image]]))
        return self.class_titles([named[label] for label in used], used), splits

    def class_titles(self, names: list[str], numbers: list[str]) -> list[str]:
        """Return class names for reading; those that two classes share get their number."""
        numbered = zip(names, numbers, strict=True)
        return [f"{name} {number}" if names.count(name) > 1 else name for name, number in numbered]

    @staticmethod
    def _by_image(files: Files, name: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for number, (image, value) in files.rows(name, 2):
            if image in found:
                raise UserError(f"{files.shown(name)}, line {number}: the image {image} has a line already.")
            found[image] = value
        return found

    def _paths(self) -> dict[str, str]:
        """Paths in the tree by the tables' names of images."""
        found = {}
        for image, name in self._by_image(self.files, IMAGES).items():
            path = self.files.find(f"images/{name}")
            if path is not None:
                found[image] = path
        return found

    def boxes(self) -> Mapping[str, Box]:
        """Boxes around the birds; none where the file is missing."""
        if self.files.find(BOXES) is None:
            return {}
        found, paths, shown = {}, self._paths(), self.files.shown(BOXES)
        for number, (image, *cells) in self.files.rows(BOXES, 5):
            x, y, width, height = numbers(cells, shown, number)
            if image in paths:
                found[paths[image]] = (x, y, x + width, y + height)
        self._every_image(BOXES, found, paths)
        return found

    def parts(self) -> tuple[list[str], Mapping[str, Any]] | None:
        """Positions of the birds' parts; none where the files are missing."""
        if self.files.find(PARTS) is None or self.files.find(PART_PLACES) is None:
            return None
        named = {cells[0]: cells[1] for _, cells in self.files.rows(PARTS, 2)}
        place = {number: column for column, number in enumerate(named)}
        found: dict[str, Any] = {}
        paths, shown = self._paths(), self.files.shown(PART_PLACES)
        for number, (image, part, *cells) in self.files.rows(PART_PLACES, 5):
            if part not in place:
                raise UserError(f"{shown}, line {number}: there is no part {part}"
                                f"{did_you_mean(part, place)}.")  # fmt: skip
            if image in paths:
                rows = found.setdefault(paths[image], np.full((len(named), 3), np.nan))
                rows[place[part]] = numbers(cells, shown, number)
        self._every_image(PART_PLACES, found, paths)
        for path, rows in found.items():
            if np.isnan(rows).any():
                part = list(named.values())[int(np.isnan(rows).any(axis=1).argmax())]
                raise UserError(f"{self.files.shown(PART_PLACES)} says nothing of {part} in {path}: unpack it again.")
        return list(named.values()), found

    def _every_image(self, name: str, found: Mapping[str, Any], paths: Mapping[str, str]) -> None:
        """Refuse a table of annotations that ends before the last image."""
        without = next((image for image, path in paths.items() if path not in found), None)
        if without is not None:
            raise UserError(f"{self.files.shown(name)} has no line for image {without} of {IMAGES}: unpack it again.")


def _by_number(label: str) -> tuple[int, str]:
    return (int(label) if label.isdecimal() else -1), label
