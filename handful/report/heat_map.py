"""A matrix as a picture, with the names of its rows and columns where there is room for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from handful.report.text import drawable, font_file

#: Side of a cell in pixels where the picture may be as large; the least where names can be read; the longest side.
_CELL, _READABLE, _LONGEST = 16, 12, 3200

#: Characters of a name, and pixels between it and the cells.
_NAME, _GAP = 32, 4


def heat(
    values: "np.ndarray[Any, Any]", rows: Sequence[str] = (), columns: Sequence[str] = ()
) -> Image.Image:
    """A matrix as a picture: red above zero, blue below, white at zero.

    Args:
        values: `(R, C)`.
        rows: R names, left of the cells.
        columns: C names, above them.

    Example:
        >>> heat(np.array([[1.0, 0.0]])).getpixel((0, 0))
        (200, 50, 45)
        >>> heat(np.array([[1.0, 0.0]]), ["wren"], ["red eye", "tail"]).size > (32, 16)
        True
    """
    cell = max(1, min(_CELL, _LONGEST // max(values.shape)))
    share = np.abs(values)[..., None] / max(float(np.abs(values).max()), 1e-12)
    colour = np.where(values[..., None] >= 0, np.array([200, 50, 45]), np.array([47, 95, 184]))
    pixels = np.rint(255 * (1 - share) + colour * share).astype(np.uint8)
    cells = Image.fromarray(pixels.repeat(cell, 0).repeat(cell, 1))
    if cell < _READABLE or not (rows or columns):
        return cells
    left, top = _names(rows, cell, "r"), _names(columns, cell, "l").transpose(Image.Transpose.ROTATE_90)
    whole = Image.new("RGB", (left.width + cells.width, top.height + cells.height), "white")
    whole.paste(left, (0, top.height))
    whole.paste(top, (left.width, 0))
    whole.paste(cells, (left.width, top.height))
    grid = ImageDraw.Draw(whole)
    for place in range(len(values) + 1):
        grid.line([(left.width, top.height + cell * place), (whole.width, top.height + cell * place)], (225, 227, 232))
    for place in range(values.shape[1] + 1):
        grid.line([(left.width + cell * place, top.height), (left.width + cell * place, whole.height)], (225, 227, 232))
    return whole


def _names(names: Sequence[str], cell: int, side: str) -> Image.Image:
    """Names below each other, a cell apart, aligned on the left ("l") or the right."""
    font = ImageFont.truetype(str(font_file()), cell - 4)
    texts = [drawable(name, _NAME) for name in names]
    width = round(max((font.getlength(text) for text in texts), default=0)) + 2 * _GAP if texts else 0
    image = Image.new("RGB", (width, cell * len(texts)), "white")
    draw = ImageDraw.Draw(image)
    for place, text in enumerate(texts):
        x = _GAP if side == "l" else width - _GAP
        draw.text((x, cell * place + cell // 2), text, (40, 42, 48), font, anchor=f"{side}m")
    return image
