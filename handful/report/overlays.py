"""Pictures of attribution maps: an image in grey with the map laid over it in colour, captions, sheets."""

import base64
import io
import textwrap
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from handful.attribution.display import FLAT, is_constant, resize
from handful.report.text import drawable, font_file

#: Colours of a map without sign, from nothing to most: dark violet over orange to pale yellow.
_HEAT = ((0.23, 0.06, 0.39), (0.55, 0.13, 0.41), (0.85, 0.28, 0.29), (0.98, 0.56, 0.15), (0.99, 0.96, 0.60))

#: For (positive) and against (negative).
_FOR, _AGAINST = (0.84, 0.10, 0.11), (0.10, 0.35, 0.78)

#: A map is drawn at full strength from this quantile on, so that one pixel does not darken the rest.
_FULL = 0.995

#: Characters of a line of a caption that are kept.
_CAPTION = 120

_INK, _PAPER = (32, 32, 36), (255, 255, 255)


def denormalise(images: Tensor, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> Tensor:
    """Undo the normalisation of images `(…, 3, H, W)` and return them in [0, 1].

    Args:
        images: normalised with `mean` and `std`; where these are not known, each is stretched by its own range.
        mean: by channel.
        std: by channel.
    """
    images = images.detach().float().cpu()
    if mean is None or std is None:
        low = images.amin(dim=(-3, -2, -1), keepdim=True)
        span = images.amax(dim=(-3, -2, -1), keepdim=True) - low
        return (images - low) / span.clamp(min=FLAT)
    scale, shift = (torch.tensor(list(part)).reshape(3, 1, 1) for part in (std, mean))
    return (images * scale + shift).clamp(0, 1)


def picture(image: Tensor, side: int = 160) -> Image.Image:
    """Return an image `(3, H, W)` in [0, 1] as a picture with its longer side at `side` pixels."""
    pixels = (image.detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    return Image.fromarray(pixels).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS
    )


class Backdrop:
    """An image that maps are laid over, once for all of them.

    Args:
        image: `(3, H, W)` in [0, 1].
        side: longer side of the picture in pixels.

    Attributes:
        picture: the image.
        grey: `(h, w)`, the same in grey, paler.
    """

    def __init__(self, image: Tensor, side: int = 160) -> None:
        self.picture = picture(image, side)
        self.grey = 0.25 + 0.6 * np.asarray(self.picture.convert("L"), dtype=np.float32) / 255

    def overlay(self, values: Tensor, signed: bool = False) -> Image.Image:
        """Draw the image in grey and the map over it in colour; where the map is 0, or constant, grey alone.

        Args:
            values: `(h, w)`, any scale; resized to the picture before it is scaled.
            signed: red speaks for the target and blue against it; else the map's negative part is not drawn.
        """
        grey = self.grey
        strength = _strength(resize(values.detach().float().cpu(), grey.shape), signed)
        alpha = 0.85 * np.abs(strength) ** 0.7
        below, rest = grey * (1 - alpha), strength < 0
        stops = np.linspace(0, 1, len(_HEAT))
        pixels = np.empty((*grey.shape, 3), dtype=np.uint8)
        for k in range(3):  # one channel at a time stays in the processor's cache
            if signed:
                colour = np.where(rest, np.float32(_AGAINST[k]), np.float32(_FOR[k]))
            else:
                colour = np.interp(strength, stops, [c[k] for c in _HEAT])
            pixels[..., k] = np.rint(255 * (below + colour * alpha))
        return Image.fromarray(pixels)


def overlay(image: Tensor, values: Tensor, signed: bool = False, side: int = 160) -> Image.Image:
    """Lay one map over an image, see `Backdrop`.

    Args:
        image: `(3, H, W)` in [0, 1].
        values: `(h, w)`.
        signed: see `Backdrop.overlay`.
        side: longer side of the picture in pixels.
    """
    return Backdrop(image, side).overlay(values, signed)


def _strength(values: Tensor, signed: bool) -> npt.NDArray[np.float32]:
    """A map scaled to [0, 1], or [−1, 1] where signed; a constant map is zero."""
    values = torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if is_constant(values):
        return np.zeros(values.shape, dtype=np.float32)
    values = values if signed else values.clamp(min=0)
    magnitude = values.abs()
    full = _high_quantile(magnitude.flatten(), _FULL)
    if full < FLAT:
        full = magnitude.amax().clamp(min=torch.finfo(torch.float32).tiny)
    return (values / full).clamp(-1, 1).numpy()


def _high_quantile(values: Tensor, share: float) -> Tensor:
    """`values.quantile(share)` of `(n,)` values, of which only the largest are sorted."""
    place = torch.tensor(share, dtype=values.dtype) * (len(values) - 1)
    below = int(place)
    largest = values.topk(len(values) - below).values
    return largest[-1].lerp(largest[max(0, len(largest) - 2)], place - below)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_file(), size)


@lru_cache(maxsize=4096)  # the same names stand beneath the pictures of every method and epoch
def _wrapped(line: str, size: int, width: int) -> list[str]:
    """A line in parts that are at most `width` pixels wide."""
    font = _font(size)
    for letters in range(len(line), 1, -1):
        parts = textwrap.wrap(line, letters)
        if all(font.getlength(part) <= width for part in parts):
            return parts
    return [line]


def captioned(image: Image.Image, lines: Sequence[str], size: int = 12) -> Image.Image:
    """Return the picture with lines of text beneath it, wrapped to its width."""
    font = _font(size)
    wrapped = [part for line in lines for part in _wrapped(drawable(line, _CAPTION), size, image.width - 2)]
    step = round(1.3 * size)
    result = Image.new("RGB", (image.width, image.height + step * len(wrapped) + size // 2), _PAPER)
    result.paste(image, (0, 0))
    draw = ImageDraw.Draw(result)
    for number, line in enumerate(wrapped):
        draw.text((1, image.height + size // 4 + number * step), line, _INK, font=font)
    return result


def sheet(tiles: Sequence[Image.Image], columns: int, title: str = "", gap: int = 8, size: int = 14) -> Image.Image:
    """Arrange tiles side by side, row by row, on white, with a title above.

    Raises:
        ValueError: there are no tiles.
    """
    if not tiles:
        raise ValueError("a sheet needs at least one tile")
    columns = min(columns, len(tiles))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    widths = [max(row[c].width for row in rows if c < len(row)) for c in range(columns)]
    heights = [max(tile.height for tile in row) for row in rows]
    head = round(1.6 * size) if title else 0
    result = Image.new("RGB", (sum(widths) + gap * (columns + 1), head + sum(heights) + gap * (len(rows) + 1)), _PAPER)
    if title:
        ImageDraw.Draw(result).text((gap, gap // 2), drawable(title, _CAPTION), _INK, font=_font(size))
    top = head + gap
    for row, height in zip(rows, heights, strict=True):
        left = gap
        for tile, width in zip(row, widths, strict=False):
            result.paste(tile, (left, top))
            left += width + gap
        top += height + gap
    return result


def data_uri(image: Image.Image, kind: Literal["PNG", "JPEG"] = "PNG") -> str:
    """Return the picture as a data URI for an HTML page; photographs are smaller as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, quality=88)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()
