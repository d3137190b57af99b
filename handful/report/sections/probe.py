"""What `probe` has found: its record."""

from collections.abc import Mapping
from typing import Any

from handful.report.content import Content

_FILLS = {"mean": "the mean colour", "blur": "the image blurred", "other": "an image of another class"}


def is_record(record: Any) -> bool:
    """Whether JSON from a file has what the section needs."""
    if not isinstance(record, dict) or not isinstance(record.get("made_from"), dict):
        return False
    regions = record.get("regions")
    return isinstance(regions, dict) and all(
        isinstance(found, dict)
        and isinstance(found.get("mean"), dict | None)
        and isinstance(found.get("classes"), dict)
        and all(row is None or (isinstance(row, list) and len(row) == 3) for row in found["classes"].values())
        for found in regions.values()
    )


def build(content: Content) -> Mapping[str, Any] | None:
    """A row per region: means, and the change of every class's score where there are few classes."""
    record = content.probe
    if record is None:
        return None
    regions = record["regions"]
    classes = list(next(iter(regions.values()))["classes"]) if regions and not content.many else []
    means = [
        [name, *(_cell((found["mean"] or {}).get(key)) for key in ("score_change", "probability_change", "changed"))]
        for name, found in regions.items()
    ]
    by_class = [
        [label, *(_cell((found["classes"].get(label) or [None])[0]) for found in regions.values())] for label in classes
    ]
    fill = _FILLS.get(str(record.get("fill")), "")
    return {"fill": fill, "means": means, "regions": list(regions), "classes": by_class}


def _cell(value: Any) -> str:
    return f"{value:+.3f}" if isinstance(value, int | float) else "–"
