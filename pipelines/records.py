"""Records and tables in a run's folder, read back and checked: other content is one sentence."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from handful import record_files
from handful.errors import UserError


def read_json(path: Path, remedy: str) -> Any:
    """The content of a JSON file; None where there is no file.

    Args:
        path: of the file.
        remedy: what to do about a damaged one, for the sentence.

    Raises:
        UserError: it is not a JSON file.
    """
    if not path.exists():
        return None
    try:
        return record_files.read_json(path)
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file ({' '.join(str(error).split())}); {remedy}") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def is_files(value: Any) -> bool:
    """Whether it is sizes and digests by the names of files."""
    return isinstance(value, dict) and all(
        isinstance(v, dict) and isinstance(v.get("size"), int) and isinstance(v.get("sha256"), str)
        for v in value.values()
    )


def is_rows(value: Any) -> bool:
    """Whether it is rows of measures by their names."""
    return isinstance(value, dict) and all(
        isinstance(row, dict) and all(v is None or isinstance(v, str) or _is_cell(v) for v in row.values())
        for row in value.values()
    )


def _is_cell(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_data(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    names, images = value.get("class_names", []), value.get("images", {})
    return (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and isinstance(images, dict)
        and all(isinstance(count, int) for count in images.values())
    )


_Check = Callable[[Any], bool]
STARTED: dict[str, _Check] = {
    "config": _is_mapping, "made_from": _is_text_by_name, "started": _is_number, "seconds": _is_number,
}  # fmt: skip
DONE: dict[str, _Check] = {
    "config": _is_mapping, "made_from": _is_text_by_name, "seconds": _is_number, "peak_memory_mib": _is_number,
}  # fmt: skip
_RESULTS: dict[str, _Check] = {
    "weights": lambda value: isinstance(value, str),
    "stages": is_rows,
    "seconds": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    "peak_memory_mib": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    "versions": _is_text_by_name,
    "data": _is_data,
}


def checked(path: Path, record: Any, required: Mapping[str, _Check], remedy: str) -> dict[str, Any]:
    """The record, if it holds what is required.

    Args:
        path: of its file.
        record: what the file holds.
        required: name of an entry → whether a value fits.
        remedy: what to do about another one, for the sentence.

    Raises:
        UserError: names the first entry that is missing or does not fit.
    """
    if not isinstance(record, dict):
        raise UserError(f"{path}: holds no record but {_kind(record)}; {remedy}")
    for name, fits in required.items():
        if name not in record or not fits(record[name]):
            how = "is missing" if name not in record else f"is {_kind(record[name])} that does not belong there"
            raise UserError(f"{path}: not a record written by Handful ({name!r} {how}); {remedy}")
    return record


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "a mapping", str: "text", int: "a number", float: "a number", bool: "a truth value"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def read_results(run: Path) -> dict[str, Any]:
    """The content of `results.json`; empty while the run is not finished.

    Raises:
        UserError: the file is no such record.
    """
    path = run / "results.json"
    remedy = "remove it; the pipeline's command writes it again from the phases"
    if not path.exists():
        return {}
    record = read_json(path, remedy)
    there = {name: fits for name, fits in _RESULTS.items() if not isinstance(record, dict) or name in record}
    return checked(path, record, there, remedy)


def read_table(path: Path, remedy: str) -> list[dict[str, str]]:
    """The rows of a CSV file by column, empty cells left out; no rows where there is no file.

    Raises:
        UserError: it is not a CSV file.
    """
    if not path.exists():
        return []
    try:
        header, *rows = record_files.read_rows(path) or [[]]
    except ValueError as error:
        raise UserError(f"{path}: not a CSV file ({error}); {remedy}") from error
    if any(len(row) > len(header) for row in rows):
        raise UserError(f"{path}: not a CSV file (a row is longer than the header); {remedy}")
    return [{name: cell for name, cell in zip(header, row, strict=False) if cell} for row in rows]


def read_metrics(path: Path, remedy: str) -> list[dict[str, float]]:
    """The rows of a `metrics.csv`: a number for every measure that was logged, and always its `step`.

    Raises:
        UserError: the file holds other things.
    """
    rows = []
    for place, row in enumerate(read_table(path, remedy), start=1):
        try:
            numbers = {name: _number(cell) for name, cell in row.items()}
        except ValueError as error:
            raise UserError(f"{path}: row {place} holds something other than numbers ({error}); {remedy}") from error
        if "step" not in numbers:
            raise UserError(f"{path}: row {place} has no step; {remedy}")
        rows.append(numbers)
    return rows


def _number(text: str) -> float:
    """A number as it was written: counts stay whole."""
    return int(text) if text.lstrip("-").isascii() and text.lstrip("-").isdigit() else float(text)
