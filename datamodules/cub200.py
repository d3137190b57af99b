"""CUB-200-2011: 200 species of birds with boxes, 15 parts, 312 attributes and, beside it, segmentations."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from datamodules.caltech import CaltechTables
from datamodules.locate import lines_of, rows_of
from datamodules.placed import PlacedAnnotations
from handful.annotations import Annotations, AttributeTable
from handful.errors import UserError
from handful.text import safe_text

_LABELS = "attributes/image_attribute_labels.txt"
# attributes.txt lies beside the folder in the archive; copies have it inside, or among the attributes
_NAMES = ("attributes/attributes.txt", "attributes.txt")
_MASKS = "segmentations/"


class CUB200(CaltechTables):
    """CUB-200-2011 by its official split: 5,994 training and 5,794 test images.

    Its annotations are parts, boxes, attributes per image with their certainty, and segmentations where the folder
    `segmentations` (an archive of its own) lies in the data set's folder or beside it.

    Args:
        root: the unpacked folder `CUB_200_2011`, one above it, or `CUB_200_2011.tgz`.
        certainty: least certainty of an attribute that counts, from 1 (not visible) to 4 (definitely); 3 in the field.
        **kwargs: see `OfficialData` and `ImageFolder`.

    Source: Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset" (CNS-TR-2011-001).
    """

    title = "CUB-200-2011"
    download = "CUB_200_2011.tgz from https://www.vision.caltech.edu/datasets/cub_200_2011/"
    official: ClassVar[Mapping[str, int]] = {"classes": 200, "train": 5994, "test": 5794}

    def __init__(self, root: str, certainty: int = 3, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        if not 1 <= certainty <= 4:
            raise UserError(f"data.certainty must be from 1 to 4, not {certainty}.")
        self.certainty = certainty

    def class_titles(self, names: list[str], numbers: list[str]) -> list[str]:
        """Class names without the number before them."""
        return super().class_titles([re.sub(r"^\d+\.", "", name) for name in names], numbers)

    def counts_as_image(self, path: str) -> bool:
        """Masks are not images."""
        return not path.removeprefix(self.files.base).startswith(_MASKS)

    def annotations(self, split: str) -> Annotations:
        """Return parts, boxes, attributes and segmentations of a split, as far as their files are there."""
        boxes, parts = self._complete(self.boxes(), self.listing.files), self.parts()
        masks = self._masks(split)
        known = PlacedAnnotations(self, split, boxes, parts, masks, "bird")
        return Annotations(
            attributes=(lambda: self._attributes(split)) if self.files.beside(_LABELS) else None,
            masks=known if masks else None,
            segmentation=known if masks else None,
            parts=known if parts else None,
            boxes=known if boxes else None,
        )

    def _masks(self, split: str) -> dict[str, str]:
        found = {}
        for path in self.splits[split].names:
            name = path.removeprefix(self.files.base).removeprefix("images/")
            mask = self.files.beside(f"{_MASKS}{name.rpartition('.')[0]}.png")
            if mask is not None:
                found[path] = mask
        return found

    def _attributes(self, split: str) -> AttributeTable:
        """Attributes of the images of a split; those of too little certainty do not count."""
        names = self._attribute_names()
        paths = self._paths()
        row = {path: place for place, path in enumerate(self.splits[split].names)}
        rows = np.full(max((int(image) for image in paths), default=0) + 1, -1)
        for image, path in paths.items():
            rows[int(image)] = row.get(path, -1)
        table = self._label_rows()
        known = (table[:, 0] < len(rows)) & (table[:, 1] >= 1) & (table[:, 1] <= len(names))
        if not known.all():
            line = int(np.argmin(known)) + 1
            raise UserError(f"{self.files.shown(_LABELS)}, line {line}: no such image or attribute.")
        wrong = ~np.isin(table[:, 2], (0, 1))
        if wrong.any():
            line = int(np.argmax(wrong)) + 1
            raise UserError(f"{self.files.shown(_LABELS)}, line {line}: {table[line - 1, 2]} where 0 or 1 belongs.")
        table = table[rows[table[:, 0]] >= 0]
        present = torch.zeros(len(row), len(names), dtype=torch.float64)
        certain = torch.zeros(len(row), len(names), dtype=torch.bool)
        at = torch.from_numpy(rows[table[:, 0]]), torch.from_numpy(table[:, 1].astype(np.int64) - 1)
        given = torch.zeros_like(certain).index_put(at, torch.tensor(True))
        if not given.all():
            row, attribute = torch.nonzero(~given)[0].tolist()
            raise UserError(f"{self.files.shown(_LABELS)} is truncated: it says nothing of {names[attribute]} in "
                            f"{self.splits[split].names[row]}. Unpack it again.")  # fmt: skip
        present[at] = torch.from_numpy(table[:, 2]).double()
        certain[at] = torch.from_numpy(table[:, 3] >= self.certainty)
        return AttributeTable(names, present, certain)

    def _attribute_names(self) -> list[str]:
        for name in _NAMES:
            if self.files.beside(name) is not None:
                lines = self.files.lines(name, beside=True)
                return [cells[1] for _, cells in rows_of(lines, self.files.shown(name), 2)]
        # beside the folder that the data set's was unpacked into
        path = self.files.anywhere("attributes.txt")
        if path is not None:
            shown = safe_text(self.files.tree.root / path)
            return [cells[1] for _, cells in rows_of(lines_of(self.files.tree.read(path), shown), shown, 2)]
        raise UserError(
            f"There is no attributes.txt in {self.files.shown()} nor beside it, where CUB_200_2011.tgz has it: put it "
            "there."
        )

    def _label_rows(self) -> Any:
        """Image, attribute, whether present, and certainty, int32 `(N, 4)`; some official lines have more cells."""
        try:
            return np.loadtxt(self.files.lines(_LABELS, beside=True), usecols=(0, 1, 2, 3), dtype=np.int32, ndmin=2)
        except (ValueError, IndexError) as error:
            raise UserError(f"{self.files.shown(_LABELS)} is truncated or not a table: {error}.") from None
