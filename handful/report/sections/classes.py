"""Every class: how well it is recognised, what decides it, what it is mistaken for."""

from collections.abc import Mapping
from typing import Any

from handful.report.content import Content
from handful.report.effects import by_strength


def build(content: Content) -> Mapping[str, Any] | None:
    """A row per class."""
    if content.deciding is None:
        return None
    return {
        "rows": [
            vars(row) | {"effects": by_strength(row.features, ":") if content.few else []}
            for row in content.deciding.classes()
        ]
    }
