"""Boxes, parts and masks of pictures, brought to where the network sees them."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.augmented import Marks
from handful.annotations import Concept
from handful.errors import UserError
from handful.images import Box, Placement
from handful.images.placement import lies_outside
from handful.images.upright import Turn
from handful.text import safe_text

if TYPE_CHECKING:
    from datamodules.image_folder import ImageFolder


class PlacedAnnotations:
    """Annotations in the pixels of the pictures, given in those of the network's images.

    Args:
        data: whose images they are.
        split: of the images.
        boxes: around the object, by path of the picture.
        parts: names of P parts, and by path `(P, 3)`: x, y and whether it is seen.
        masks: by path of the picture the path of a mask of the object.
        kind: what the object is.
    """

    def __init__(
        self,
        data: "ImageFolder",
        split: str,
        boxes: Mapping[str, Box],
        parts: tuple[list[str], Mapping[str, Any]] | None = None,
        masks: Mapping[str, str] | None = None,
        kind: str = "object",
    ) -> None:
        self._data, self._split, self._names = data, split, data.splits[split].names
        self._boxes, self._masks = boxes, masks or {}
        self.part_names, self._parts = parts or ([], {})
        self.concepts: Sequence[Concept] = [Concept(kind, "object")] if self._masks else []
        self._warned = False  # of a box that lies outside
        self._turn = lru_cache(maxsize=100_000)(self._read_turn)

    def placement(self, index: int) -> Placement:
        """Return how an image of the split was brought to the network."""
        path = self._names[index]
        turn, used = self._turn(path), self._data.listing.boxes.get(path)
        box = None if used is None else turn.box(used)
        return Placement.of(turn.size, self._data.image_size, self._data.fit, box)

    def _box(self, path: str) -> Tensor:
        """Left, top, right, bottom on the upright picture; all of it without a box."""
        turn, box = self._turn(path), self._boxes.get(path, (0, 0, 0, 0))
        if not self._warned and lies_outside(turn.stored, box):
            self._warned = True
            warnings.warn(f"The box of {safe_text(self._data.listing.tree.root / path)} lies outside the picture, and "
                          "so may others: all of the picture is taken in their place", stacklevel=2)  # fmt: skip
        return torch.tensor(turn.box(box), dtype=torch.float64)

    def _rows(self, path: str) -> Tensor | None:
        """X, y on the upright picture and visibility of its parts; None where nothing is known."""
        known = self._parts.get(path)
        if known is None:
            return None
        rows = torch.from_numpy(np.asarray(known, dtype=np.float64))
        return torch.cat([self._turn(path).points(rows[:, :2]), rows[:, 2:]], dim=1)

    def stored_marks(self, index: int) -> Marks:
        """Return what lies on the image as it is kept, resized but not yet cut to the square."""
        path, placement = self._names[index], self.placement(index)
        image = self._data.splits[self._split].pixels(index)
        start = (0, 0) if tuple(image.shape[-2:]) == placement.target[::-1] else placement.offset
        kept = replace(placement, offset=start)
        known = self._rows(path)
        rows = torch.zeros(len(self.part_names), 3).double() if known is None else known
        box = (kept.points(self._box(path).view(2, 2) - 0.5) + 0.5).flatten() if self._boxes else None
        masks = torch.zeros(2 if self._masks else 0, *image.shape[-2:], dtype=torch.bool)
        if path in self._masks:
            canvas = Image.new("L", (image.shape[-1], image.shape[-2]))
            canvas.paste(kept.resized(self._grey(path)), start)
            masks[:] = torch.from_numpy(np.asarray(canvas) > 127)
        parts, ends = kept.points(rows[:, :2].double()), torch.tensor(image.shape[:0:-1]) - 0.5
        return Marks(parts, (rows[:, 2] > 0) & ((parts >= -0.5) & (parts < ends)).all(dim=1), box, masks)

    def _grey(self, path: str) -> Image.Image:
        """The mask of a picture, upright, at its size."""
        tree, turn = self._data.listing.tree, self._turn(path)
        shown = safe_text(tree.root / self._masks[path])
        try:
            with Image.open(io.BytesIO(tree.read(self._masks[path]))) as picture:
                mask = picture.convert("L")
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{shown} cannot be read as a mask: {safe_text(error)}; unpack it again.") from None
        # over the stored picture, or over the upright one, as tools write it that turn pictures by their EXIF tag
        size = min((turn.stored, turn.size), key=lambda size: _difference(mask.size, size))
        if _difference(mask.size, size) > 1:
            width, height = turn.stored
            raise UserError(f"{shown} has {mask.width} × {mask.height} pixels, where its picture has {width} × "
                            f"{height}: it is not its mask.")  # fmt: skip
        over = mask if mask.size == size else mask.resize(size)
        return turn.picture(over) if size == turn.stored else over

    def _read_turn(self, path: str) -> Turn:
        try:
            return Turn.of(self._data.listing.tree.read(path))
        except OSError as error:  # it was read whole before: it has changed since
            raise UserError(f"{path} cannot be read as an image: {error}.") from None

    def boxes(self, indices: Sequence[int]) -> Tensor:
        """Left, top, right, bottom in pixels of the network's image, float64 `(B, 4)`; all of it without a box."""
        found = []
        for index in map(int, indices):
            path = self._names[index]
            found.append(self.placement(index).boxes(self._box(path)))
        return torch.stack(found) if found else torch.zeros(0, 4, dtype=torch.float64)

    def positions(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """X and y of each part, float64 `(B, P, 2)`, and whether it is seen, bool `(B, P)`: not where cut away."""
        places, seen = [], []
        for index in map(int, indices):
            values = self._rows(self._names[index])
            if values is None:
                places.append(torch.zeros(len(self.part_names), 2, dtype=torch.float64))
                seen.append(torch.zeros(len(self.part_names), dtype=torch.bool))
                continue
            placement = self.placement(index)
            places.append(placement.points(values[:, :2]))
            seen.append((values[:, 2] > 0) & placement.inside(places[-1]))
        if not places:
            return torch.zeros(0, len(self.part_names), 2).double(), torch.zeros(0, len(self.part_names)).bool()
        return torch.stack(places), torch.stack(seen)

    def segmentation(self, indices: Sequence[int]) -> Tensor:
        """Bool `(B, size, size)`: the pixels of the object; none where there is no mask."""
        side = self._data.image_size
        found = torch.zeros(len(indices), side, side, dtype=torch.bool)
        for row, index in enumerate(map(int, indices)):
            path = self._names[index]
            if path in self._masks:
                pixels = np.asarray(self.placement(index).square(self._grey(path)))
                found[row] = torch.from_numpy(pixels > 127)
        return found

    def masks(self, indices: Sequence[int]) -> Tensor:
        """Bool `(B, 1, size, size)`: the object, the only concept."""
        return self.segmentation(indices)[:, None]

    def annotated(self, indices: Sequence[int]) -> Tensor:
        """Bool `(B, 1)`: whether there is a mask of the image."""
        return torch.tensor([[self._names[int(index)] in self._masks] for index in indices], dtype=torch.bool)


def _difference(mask: tuple[int, int], picture: tuple[int, int]) -> float:
    """How far the shapes of a mask and a picture differ, in what rounding to a size explains: 0 none, 1 is allowed.

    Allowed are one pixel of the smaller of both, and a twentieth.
    """
    if mask == picture:
        return 0.0
    across, down = mask[0] * picture[1], mask[1] * picture[0]
    return abs(across - down) / max(0.05 * across, *mask, *picture)
