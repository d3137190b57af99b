"""Class-specific filters: the few that decide each class, with how often and how strongly."""

from collections.abc import Mapping
from typing import Any

from handful.report.content import Content


def build(content: Content) -> Mapping[str, Any] | None:
    """The record `filters.json` of the phase that found them."""
    for phase in reversed(content.phases):
        record = content.json(f"{phase}/filters.json")
        if not isinstance(record, dict) or not isinstance(record.get("classes"), dict):
            continue
        rows = [
            {"name": name, "filters": [{**one, "label": content.label(one["filter"])} for one in filters]}
            for name, filters in record["classes"].items()
        ]
        noise = content.json(f"{phase}/essentiality.json")
        return {"k1": record["k1"], "k2": record["k2"], "union": record["union"], "rows": rows, "noise": noise or {}}
    return None
