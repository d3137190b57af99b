"""Class-specific filters: the few that decide each class, with how often and how strongly."""

from collections.abc import Mapping
from typing import Any

from handful.report.content import Content


def build(content: Content) -> Mapping[str, Any] | None:
    """The record `filters.json` of the phase that found them."""
    for phase in reversed(content.phases):
        record = content.record(phase, "filters.json", _is_record)
        if record is None:
            continue
        rows = [
            {"name": name, "filters": [{**one, "label": content.label(one["filter"])} for one in filters]}
            for name, filters in record["classes"].items()
        ]
        noise = content.record(phase, "essentiality.json", _has_numbers)
        return {"k1": record["k1"], "k2": record["k2"], "union": record["union"], "rows": rows, "noise": noise or {}}
    return None


def _is_record(record: Any) -> bool:
    """Whether JSON from a file has what the section needs."""
    if not isinstance(record, dict) or not {"k1", "k2", "union", "classes"} <= set(record):
        return False
    classes = record["classes"]
    return isinstance(classes, dict) and all(
        isinstance(filters, list)
        and all(_has_numbers(one) and {"filter", "frequency", "weight"} <= set(one) for one in filters)
        for filters in classes.values()
    )


def _has_numbers(row: Any) -> bool:
    return isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())
