"""Tables for the terminal."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from rich.cells import cell_len

from handful.text import safe_text, shorten

#: Characters of a cell; the middle of a longer one is left out.
_WIDEST = 60

#: Characters of a line that most terminals have, or get when they are widened; wider tables of stages are turned.
_LINE = 130


def format_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Container[int] = ()) -> str:
    """Return a table with padded columns, numbers to the right, floats with significant digits only.

    Names from elsewhere are shortened, and their control characters made visible.

    Args:
        columns: their names.
        rows: their cells.
        numeric: columns of numbers that are text already, by place.
    """
    cells = [[_cell(column, value) for column, value in zip(columns, row, strict=True)] for row in rows]
    names = [_shown(column) for column in columns]
    widths = [max(map(cell_len, (c, *(row[i] for row in cells)))) for i, c in enumerate(names)]
    right = [i in numeric or all(_is_number(row[i]) for row in rows) for i in range(len(columns))]

    def line(values: Sequence[str]) -> str:
        blanks = (" " * (w - cell_len(v)) for v, w in zip(values, widths, strict=True))
        padded = (b + v if n else v + b for v, b, n in zip(values, blanks, right, strict=True))
        return "  " + "   ".join(padded).rstrip()

    return "\n".join([line(names), "  " + "─" * (sum(widths) + 3 * (len(widths) - 1)), *map(line, cells)])


def stage_table(stages: Mapping[str, Mapping[str, Any]], what: str = "stage") -> str:
    """Return the measures of stages, one row per stage, as a table; `what` heads their names.

    Where that would be wider than most terminals, there is one row per measure, if that is narrower.
    """
    columns, rows = _stage_rows(stages)
    table = format_table([what, *columns[1:]], rows)
    if _width(table) <= _LINE:
        return table
    cells = [[_cell(column, value) for column, value in zip(columns, row, strict=True)] for row in rows]
    turned = [list(row) for row in zip(columns, *cells, strict=True)]
    other = format_table(["measure", *(row[0] for row in cells)], turned[1:], numeric=range(1, len(cells) + 1))
    return min(table, other, key=_width)


def _width(table: str) -> int:
    return max(map(cell_len, table.splitlines()))


def stage_cells(stages: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the column names and the cells of every stage, as `stage_table` shows them."""
    columns, rows = _stage_rows(stages)
    return columns, [[_cell(column, value) for column, value in zip(columns, row, strict=True)] for row in rows]


def _stage_rows(stages: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    names = list(dict.fromkeys(key for row in stages.values() for key in row))
    shown = [name for name in names if not name.startswith("diversity@") or name == "diversity@5"]
    return ["stage", *shown], [[stage, *(row.get(name) for name in shown)] for stage, row in stages.items()]


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def _cell(column: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, float):
        few = column in ("accuracy", "balanced_accuracy", "features_per_class") or abs(value) >= 10
        return f"{value:.2f}" if few else f"{value:.4f}"
    return _shown(value)


def _shown(value: Any) -> str:
    return shorten(safe_text(value), _WIDEST)
