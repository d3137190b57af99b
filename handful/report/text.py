"""Text in pictures: what the font can draw, and no mathematics."""

import unicodedata
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font

from handful.text import JOINERS, safe_text, shorten

#: Characters of a name in a figure, a table or a caption.
NAME = 40


def drawable(text: object, limit: int = NAME, lines: bool = False) -> str:
    """Prepare text for a picture: control characters visible, shortened, and `□` for what the font lacks.

    Args:
        text: anything; `str` is taken of it.
        limit: characters that are kept.
        lines: keep newlines.
    """
    known = _glyphs()
    return "".join(
        letter if ord(letter) in known or letter == "\n" else "□"
        for letter in shorten(unicodedata.normalize("NFC", safe_text(text, lines)), limit)
        if letter not in JOINERS and unicodedata.category(letter) != "Mn"
    )


def figure_text(text: object, limit: int = NAME, lines: bool = False) -> str:
    r"""Prepare text for a matplotlib figure: as `drawable`, and dollars start no mathematics.

    Example:
        >>> figure_text("$x_1$")
        '\\$x_1\\$'
    """
    return drawable(text, limit, lines).replace("$", r"\$")


def font_file() -> Path:
    """The font of every picture, which matplotlib carries: DejaVu Sans, with arrows, Greek, Cyrillic and Arabic."""
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(FT2Font(str(font_file())).get_charmap())
