"""What `evaluate` has measured: its record."""

import math
from collections.abc import Mapping
from typing import Any

from handful.report.content import Content

_ARROWS = {"higher": " ↑", "lower": " ↓"}


def is_record(record: Any) -> bool:
    """Whether JSON from a file has what the section needs."""
    if not isinstance(record, dict) or not isinstance(record.get("made_from"), dict):
        return False
    stages, about = record.get("stages"), record.get("measures")
    return (
        isinstance(stages, dict)
        and isinstance(about, dict)
        and all(isinstance(row, dict) and all(_is_value(value) for value in row.values()) for row in stages.values())
        and all(isinstance(one, dict) and isinstance(one.get("values"), list) for one in about.values())
        and isinstance(record.get("left_out"), dict)
        and isinstance(record.get("details", {}), dict)
    )


def build(content: Content) -> Mapping[str, Any] | None:
    """A row per value with its question, a column per stage; what single features follow and detect."""
    record = content.measures
    if record is None:
        return None
    stages = record["stages"]
    rows = [
        [f"{value}{_ARROWS.get(str(about.get('better')), '')}", str(about.get("title", "")),
         *(_cell(values.get(value)) for values in stages.values())]
        for about in record["measures"].values()
        for value in map(str, about["values"])
    ]  # fmt: skip
    return {
        "columns": ["measure", "question", *map(str, stages)],
        "rows": rows,
        "left_out": record["left_out"],
        "images": record.get("images", ""),
        "split": record.get("split", ""),
        "single": _single(record),
    }


def _single(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Attribute, concept and the like of single features in the last stage that has any, at most 60."""
    columns = {"alignment": ("attribute", "alignment"), "dissection": ("concept", "iou"),
               "location_instability": ("instability",)}  # fmt: skip
    for stage, details in reversed(list(record.get("details", {}).items())):
        found: dict[Any, dict[str, Any]] = {}
        names: list[str] = []
        for measure, wanted in columns.items():
            listed = details.get(measure) if isinstance(details, dict) else None
            listed = listed.get("features") if isinstance(listed, dict) else None
            if not isinstance(listed, list) or not all(_is_row(row) for row in listed):
                continue
            names += wanted
            for row in listed:
                found.setdefault(row["feature"], {}).update({name: row.get(name) for name in wanted})
        if found and len(found) <= 60:
            cells = [[str(number), *(_cell(row.get(name)) for name in names)] for number, row in found.items()]
            return {"stage": stage, "columns": ["feature", *names], "rows": cells}
    return None


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("feature"), int)


def _is_value(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
