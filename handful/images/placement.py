"""Where the pixels of a picture come to lie in the square that a network gets, and points and boxes with them."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from handful.errors import UserError, did_you_mean

#: How a picture is brought into a square: its middle, all of it with black bars, or all of it stretched; "timm" as the
#: backbone's publisher does, which becomes the text of a `Framing` once the backbone is known.
Fit = Literal["crop", "pad", "squash", "timm"]

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


@dataclass(frozen=True)
class Framing:
    """What of a picture the square shows, and how it is resized.

    Attributes:
        kind: "crop", "pad" or "squash".
        share: side of the square over the side that the picture is resized to, in (0, 1]; timm's `crop_pct`.
        resampling: how the picture is resized, by Pillow's name in lower case.

    Example:
        >>> framing = Framing.of("crop 0.875 bicubic")
        >>> framing.resized_side(224), str(framing), str(Framing.of("pad"))
        (256, 'crop 0.875 bicubic', 'pad')
    """

    kind: str = "crop"
    share: float = 1.0
    resampling: str = "bilinear"

    @classmethod
    def of(cls, fit: str) -> "Framing":
        """Read `crop`, `pad`, `squash`, or one of them with share and resampling behind it.

        Raises:
            UserError: it is something else.
        """
        kind, *rest = fit.split(" ")
        try:
            share = float(rest[0]) if rest else 1.0
        except ValueError:
            share = math.nan
        resampling = rest[1] if len(rest) == 2 else "bilinear"
        if kind not in ("crop", "pad", "squash") or len(rest) not in (0, 2) or not 0 < share <= 1:
            raise UserError(f"no way to bring a picture into a square: {fit!r}")
        known = [name.lower() for name in Image.Resampling.__members__]
        if resampling not in known:
            raise UserError(f"no way to resize a picture: {resampling!r}{did_you_mean(resampling, known)}")
        return cls(kind, share, resampling)

    def __str__(self) -> str:
        return self.kind if self == Framing(self.kind) else f"{self.kind} {self.share:.12g} {self.resampling}"

    def resized_side(self, side: int) -> int:
        """Return what a picture's side is resized to for a square of `side` pixels, rounded down as timm has it."""
        return max(side, math.floor(side / self.share))

    def described(self, side: int) -> str:
        """Return what is done with a picture, in words."""
        resized, how = self.resized_side(side), "" if self.resampling == "bilinear" else f" ({self.resampling})"
        square = f", the middle {side} × {side} cut out"
        if self.kind == "crop":
            return f"the shorter side resized to {resized} pixels{how}{square}"
        words = "stretched to" if self.kind == "squash" else "resized, with black bars, into"
        return f"{words} {resized} × {resized} pixels{how}" + (square if resized > side else "")


def cut_box(size: tuple[int, int], box: Box) -> tuple[int, int, int, int]:
    """Return a box in whole pixels inside a picture; the whole picture where nothing of the box lies inside.

    Args:
        size: width and height of the picture.
        box: see `Box`.

    Example:
        >>> cut_box((100, 80), (10.4, -5, 60.2, 0)), cut_box((100, 80), (0, 0, 0, -20))
        ((10, 0, 60, 80), (0, 0, 100, 60))
    """
    return _inside(size, box) or (0, 0, *size)


def lies_outside(size: tuple[int, int], box: Box) -> bool:
    """Whether a box that is not empty in itself (`is_empty`) has no pixel inside a picture.

    Example:
        >>> lies_outside((100, 80), (120, 10, 150, 40)), lies_outside((100, 80), (90, 10, 150, 40))
        (True, False)
    """
    return _inside(size, box) is None and not is_empty(box)


def is_empty(box: Box) -> bool:
    """Whether a box holds nothing, whatever the size of the picture."""
    left, top, right, bottom = box
    return 0 < right <= left or 0 < bottom <= top


def _inside(size: tuple[int, int], box: Box) -> tuple[int, int, int, int] | None:
    width, height = size
    right, bottom = (edge if edge > 0 else side + edge for edge, side in zip(box[2:], size, strict=True))
    left, top = max(round(box[0]), 0), max(round(box[1]), 0)
    right, bottom = min(round(right), width), min(round(bottom), height)
    return (left, top, right, bottom) if right > left and bottom > top else None


@dataclass(frozen=True)
class Placement:
    """How a picture is brought to a network: cut, resized, and placed in a square.

    Attributes:
        source: left, top, right, bottom of the part of the picture that is used, in its pixels.
        target: width and height that this part is resized to.
        offset: x and y of its left upper corner in the square; below 0 where the square cuts it.
        side: of the square, in pixels.
        resampling: how it is resized.

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

    resampling: Image.Resampling = Image.Resampling.BILINEAR

    @classmethod
    def of(cls, size: tuple[int, int], side: int, fit: str = "crop", box: Box | None = None) -> "Placement":
        """Return the placement of a picture.

        Args:
            size: its width and height in pixels.
            side: of the square in pixels.
            fit: "crop", "pad", "squash" or the text of a `Framing`.
            box: the part of the picture that is used; None for all of it.
        """
        framing = Framing.of(fit)
        left, top, right, bottom = (0, 0, *size) if box is None else cut_box(size, box)
        width, height = right - left, bottom - top
        resized = framing.resized_side(side)
        if framing.kind == "squash":
            target = (resized, resized)
        elif framing.kind == "pad":
            longer = max(width, height)
            target = (max(1, round(width * resized / longer)), max(1, round(height * resized / longer)))
        else:
            shorter = min(width, height)
            longest = MAX_ASPECT * shorter
            left, top = left + max(width - longest, 0) // 2, top + max(height - longest, 0) // 2
            width, height = min(width, longest), min(height, longest)
            target = (max(resized, width * resized // shorter), max(resized, height * resized // shorter))
        if framing.kind == "pad":
            offset = ((side - target[0]) // 2, (side - target[1]) // 2)
        else:
            offset = (-round((target[0] - side) / 2), -round((target[1] - side) / 2))
        how = Image.Resampling[framing.resampling.upper()]
        return cls((left, top, left + width, top + height), target, offset, side, how)

    def resized(self, picture: Image.Image) -> Image.Image:
        """Return the used part of the picture at its target size, not yet placed in the square."""
        if self.source != (0, 0, *picture.size):
            picture = picture.crop(self.source)
        return picture if picture.size == self.target else picture.resize(self.target, self.resampling)

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

