"""Where the pixels of a picture come to lie in the square that a network gets, and points and boxes with them."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from handful.errors import UserError, did_you_mean

#: How a picture is brought into a square: its middle, all of it with black bars, or all of it stretched.
Fit = Literal["crop", "pad", "squash"]

#: Left, top, right and bottom in pixels of the picture; right and bottom of 0 and below count from its far edges.
Box = tuple[float, float, float, float]

#: Longest side of an image, in shorter sides; what is longer is cropped to its middle before it is resized.
MAX_ASPECT = 8


def check_fit(fit: str) -> None:
    """Refuse an unknown `data.fit`.

    Raises:
        UserError: it is none of `Fit`.
    """
    if fit not in get_args(Fit):
        raise UserError(
            f"data.fit must be one of {', '.join(get_args(Fit))}, not {fit!r}{did_you_mean(fit, get_args(Fit))}."
        )


def cut_box(size: tuple[int, int], box: Box) -> tuple[int, int, int, int]:
    """Return a box in whole pixels inside a picture; the whole picture where nothing of the box lies inside.

    Args:
        size: width and height of the picture.
        box: see `Box`.

    Example:
        >>> cut_box((100, 80), (10.4, -5, 60.2, 0)), cut_box((100, 80), (0, 0, 0, -20))
        ((10, 0, 60, 80), (0, 0, 100, 60))
    """
    width, height = size
    right, bottom = (edge if edge > 0 else side + edge for edge, side in zip(box[2:], size, strict=True))
    left, top = max(round(box[0]), 0), max(round(box[1]), 0)
    right, bottom = min(round(right), width), min(round(bottom), height)
    return (left, top, right, bottom) if right > left and bottom > top else (0, 0, width, height)


@dataclass(frozen=True)
class Placement:
    """How a picture is brought to a network: cut, resized, and placed in a square.

    Attributes:
        source: left, top, right, bottom of the part of the picture that is used, in its pixels.
        target: width and height that this part is resized to.
        offset: x and y of its left upper corner in the square; below 0 where the square cuts it.
        side: of the square, in pixels.

    Example:
        >>> placement = Placement.of((40, 20), 10)
        >>> placement.target, placement.offset
        ((20, 10), (-5, 0))
        >>> placement.points(torch.tensor([[19.5, 9.5]])).tolist()  # the centre stays the centre
        [[4.5, 4.5]]
        >>> Placement.of((40, 20), 10, "pad").boxes(torch.tensor([[0.0, 0.0, 40.0, 20.0]])).tolist()
        [[0.0, 2.0, 10.0, 7.0]]
    """

    source: tuple[int, int, int, int]
    target: tuple[int, int]
    offset: tuple[int, int]
    side: int

    @classmethod
    def of(cls, size: tuple[int, int], side: int, fit: Fit = "crop", box: Box | None = None) -> "Placement":
        """Return the placement of a picture.

        Args:
            size: its width and height in pixels.
            side: of the square in pixels.
            fit: see `Fit`.
            box: the part of the picture that is used; None for all of it.
        """
        left, top, right, bottom = (0, 0, *size) if box is None else cut_box(size, box)
        width, height = right - left, bottom - top
        if fit == "squash":
            return cls((left, top, right, bottom), (side, side), (0, 0), side)
        if fit == "pad":
            longer = max(width, height)
            target = (max(1, round(width * side / longer)), max(1, round(height * side / longer)))
            return cls((left, top, right, bottom), target, ((side - target[0]) // 2, (side - target[1]) // 2), side)
        shorter = min(width, height)
        longest = MAX_ASPECT * shorter
        left, top = left + max(width - longest, 0) // 2, top + max(height - longest, 0) // 2
        width, height = min(width, longest), min(height, longest)
        target = (max(side, width * side // shorter), max(side, height * side // shorter))
        offset = (-round((target[0] - side) / 2), -round((target[1] - side) / 2))
        return cls((left, top, left + width, top + height), target, offset, side)

    def resized(self, picture: Image.Image) -> Image.Image:
        """Return the used part of the picture at its target size, not yet placed in the square."""
        if self.source != (0, 0, *picture.size):
            picture = picture.crop(self.source)
        return picture if picture.size == self.target else picture.resize(self.target, Image.Resampling.BILINEAR)

    def square(self, picture: Image.Image) -> Image.Image:
        """Return the square; what the picture does not cover is black."""
        image = self.resized(picture)
        if self.target == (self.side, self.side):
            return image
        canvas = Image.new(image.mode, (self.side, self.side))
        canvas.paste(image, self.offset)
        return canvas

    def points(self, xy: Tensor) -> Tensor:
        """Positions `(…, 2)` of pixel centres in the picture → in the square; those cut away lie outside [0, side)."""
        return (xy.double() + 0.5 - self._start) * self._scale + self._shift - 0.5

    def boxes(self, edges: Tensor) -> Tensor:
        """Boxes `(…, 4)`, left, top, right, bottom in the picture → in the square, cut where the square ends."""
        corners = edges.double().unflatten(-1, (2, 2))
        return ((corners - self._start) * self._scale + self._shift).clamp(0, self.side).flatten(-2)

    def inside(self, xy: Tensor) -> Tensor:
        """Whether positions `(…, 2)` in the square are on it, bool `(…)`."""
        return ((xy >= -0.5) & (xy < self.side - 0.5)).all(dim=-1)

    @property
    def _start(self) -> Tensor:
        return torch.tensor(self.source[:2], dtype=torch.float64)

    @property
    def _scale(self) -> Tensor:
        left, top, right, bottom = self.source
        return torch.tensor([self.target[0] / (right - left), self.target[1] / (bottom - top)], dtype=torch.float64)

    @property
    def _shift(self) -> Tensor:
        return torch.tensor(self.offset, dtype=torch.float64)

