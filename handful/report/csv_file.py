"""The one reader and writer of CSV tables. A spreadsheet that opens them runs no formula that a name contains."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from numbers import Number
from pathlib import Path
from typing import Any

from handful.atomic import atomic
from handful.record_files import read_rows

#: What a spreadsheet may take for the start of a formula: at the beginning of a cell, or after a character at which
#: it may split the cell. Some skip spaces, control characters, invisible marks and quotes before it.
_CONTROL, _MARKS = r"\x00-\x1f\x7f-\x9f", r"\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
_START = rf"(^|[;,|\t-\r\x1c-\x1e\x85\u2028\u2029])([\s\"{_CONTROL}{_MARKS}]*)"
_FORMULA = r"(?=[=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b])"
_UNSAFE = re.compile(f"{_START}('*){_FORMULA}")
_DEFUSED = re.compile(f"{_START}'('*){_FORMULA}")
_BLANK_START = re.compile(r"^('*)(?=[\t\r\n])")
_DEFUSED_BLANK = re.compile(r"^'('*)(?=[\t\r\n])")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.ASCII)


def defuse(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would take for a formula.

    That is `=`, `+`, `-` and `@` (and their full-width and small forms) at the start of a cell or after a separator
    within it, and a tab or line break at the start. Numbers stay as they are.

    Example:
        >>> defuse("=cmd|' /C calc'!A0"), defuse("wren"), defuse("-1.5")
        ("'=cmd|' /C calc'!A0", 'wren', '-1.5')
    """
    if _NUMBER.fullmatch(text):
        return text
    return _BLANK_START.sub(r"'\1", _UNSAFE.sub(r"\1\2'\3", text))


def restore(text: str) -> str:
    """Undo `defuse`.

    Example:
        >>> restore("'=cmd")
        '=cmd'
    """
    return _DEFUSED.sub(r"\1\2\3", _DEFUSED_BLANK.sub(r"\1", text))


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    r"""Return a table as CSV text; text cells are defused, numbers are written as Python writes them.

    Args:
        columns: names of the columns.
        rows: a cell per column; None is an empty cell.

    Example:
        >>> csv_text(["class", "score"], [("=wren", -1.5)])
        "class,score\r\n'=wren,-1.5\r\n"
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table)  # lines end in CR LF, as RFC 4180 has it
    writer.writerow([_cell(name) for name in columns])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return table.getvalue()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV in UTF-8, whole or not at all; see `csv_text`."""
    text = csv_text(columns, rows)
    with atomic(path) as file:
        file.write(text.encode())


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table that `write_csv` wrote, a dictionary per row, with the cells as they were before.

    Raises:
        ValueError: the file is not a table of text in UTF-8.
    """
    header, *rows = [[restore(cell) for cell in row] for row in read_rows(path)] or [[]]
    return [dict(zip_longest(header, row[: len(header)], fillvalue="")) for row in rows]


def _cell(value: Any) -> Any:
    """A cell as it is written; bytes of a file name that are not UTF-8 become backslash escapes."""
    if value is None or isinstance(value, Number):
        return value
    return defuse(str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
