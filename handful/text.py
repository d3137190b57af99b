"""Text from elsewhere (names of classes and files) on its way to a terminal or a page."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

#: Join letters in Persian, Indic scripts and emoji; they cannot reorder or hide what stands around them.
JOINERS = "\u200c\u200d"

#: Control characters, format characters (bidirectional marks, zero-width marks), surrogates, line separators.
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def safe_text(text: object, lines: bool = False) -> str:
    r"""Make control characters visible, so that text cannot steer the terminal or the page that shows it.

    Escape sequences, newlines, bidirectional and zero-width marks and the bytes of a name that are not UTF-8 become
    backslash escapes; every script and emoji is unchanged.

    Args:
        text: anything; `str` is taken of it.
        lines: keep newlines and tabs, for text of several lines that is our own.

    Example:
        >>> safe_text("wren\x1b[31m")
        'wren\\x1b[31m'
        >>> safe_text("Käuzchen")
        'Käuzchen'
        >>> safe_text("caf\udce9.jpg")
        'caf\\xe9.jpg'
    """
    text = str(text)
    if text.isascii() and text.isprintable():  # nearly always, and reports have hundred thousands of them
        return text
    return "".join(_visible(letter, lines) for letter in text)


def _visible(letter: str, lines: bool) -> str:
    if letter.isascii() and letter.isprintable():
        return letter
    if letter in JOINERS or (lines and letter in "\n\t"):
        return letter
    if "\udc80" <= letter <= "\udcff":  # how Python keeps a byte that it cannot decode
        return f"\\x{ord(letter) - 0xDC00:02x}"
    if unicodedata.category(letter) in _UNPRINTABLE:
        return letter.encode("unicode_escape").decode("ascii")
    return letter


def shorten(text: str, limit: int) -> str:
    """Replace the middle of a text longer than `limit` characters by `…`; beginning and end stay.

    Example:
        >>> shorten("a very long name of a class", 11)
        'a ver…class'
    """
    if len(text) <= limit:
        return text
    head = (limit - 1) // 2
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def distinct_names(names: Sequence[object], limit: int) -> list[str]:
    r"""Prepare names of classes for a page that tells them apart by their text alone.

    Args:
        names: by class number.
        limit: characters of the longest; see `shorten`. The number that tells equal ones apart comes on top.

    Example:
        >>> distinct_names(["owl", "wren\x1b", "wren\\x1b", "owl"], 20)
        ['owl (class 0)', 'wren\\x1b (class 1)', 'wren\\x1b (class 2)', 'owl (class 3)']
    """
    shown = [shorten(safe_text(name), limit) for name in names]
    counts = Counter(shown)
    numbered = [f"{name} (class {number})" for number, name in enumerate(shown)]
    found = [one if counts[name] > 1 else name for name, one in zip(shown, numbered, strict=True)]
    return found if len(set(found)) == len(found) else numbered  # a name may itself end as a numbered one


def markdown_text(text: object) -> str:
    r"""Prepare text for Markdown, which finds no markup in it.

    Example:
        >>> markdown_text("Le_Conte <b>")
        'Le\\_Conte \\<b\\>'
    """
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>#|$~&!" else letter for letter in safe_text(text))
