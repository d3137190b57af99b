"""NABirds: 555 classes of North American birds with boxes, 11 parts and a hierarchy of species."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from datamodules.caltech import CLASSES, CaltechTables
from handful.annotations import Annotations
from handful.errors import UserError
from handful.text import safe_text

_PARENTS = "hierarchy.txt"


class NABirds(CaltechTables):
    """NABirds by its official split: 23,929 training and 24,633 test images of 555 classes.

    Its annotations are boxes, parts and the hierarchy, which leads from a class by its species to all birds.

    Args:
        root: the unpacked folder `nabirds`, one above it, or the archive.
        **kwargs: see `OfficialData` and `ImageFolder`.

    Source: Van Horn et al., "Building a bird recognition app and large scale dataset with citizen scientists" (CVPR
        2015).
    """

    title = "NABirds"
    download = "nabirds.tar.gz from https://dl.allaboutbirds.org/nabirds"
    official: ClassVar[Mapping[str, int]] = {"classes": 555, "train": 23929, "test": 24633}

    def annotations(self, split: str) -> Annotations:
        """Return boxes, parts and the hierarchy, as far as their files are there."""
        return replace(super().annotations(split), hierarchy=self.hierarchy())

    def hierarchy(self) -> dict[str, str] | None:
        """Return, by name of a class or group, the name of the group that it belongs to; None without its file."""
        if self.files.find(_PARENTS) is None:
            return None
        named = {cells[0]: cells[1] for _, cells in self.files.rows(CLASSES, 2)}
        shared = {name for name in named.values() if list(named.values()).count(name) > 1}
        title = {number: f"{name} {number}" if name in shared else name for number, name in named.items()}
        # a class that shares its name with a group above it keeps the name that it has as a label
        title |= {number: named[number] for number in named if named[number] in set(self.class_names)
                  and number in self._leaves()}  # fmt: skip
        above: dict[str, str] = {}
        for line, (child, parent) in self.files.rows(_PARENTS, 2):
            if parent not in named or child not in named:
                wrong = next(number for number in (parent, child) if number not in named)
                raise UserError(f"{self.files.shown(_PARENTS)}, line {line}: there is no class {safe_text(wrong)}.")
            above[child] = parent
        for number in sorted(self._leaves()):
            self._check_path(number, above)
        return {title[child]: title[parent] for child, parent in above.items()}

    def _check_path(self, leaf: str, above: Mapping[str, str]) -> None:
        """Refuse a hierarchy in which a class belongs to no group, or to itself."""
        passed, number = {leaf}, above.get(leaf)
        while number is not None and number not in passed:
            passed.add(number)
            number = above.get(number)
        if number is not None or len(passed) == 1:
            what = "leads in a circle from" if number is not None else "says no group of"
            raise UserError(f"{self.files.shown(_PARENTS)} {what} the class {safe_text(leaf)}: unpack it again.")

    def _leaves(self) -> set[str]:
        return {cells[1] for _, cells in self.files.rows("image_class_labels.txt", 2)}
