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
        "many": content.many,
        "rows": [
            vars(row)
            | {"label": label, "link": content.class_link(label) if content.many else ""}
            | {"effects": class_weights(content, row.features) if content.few else []}
            for label, row in enumerate(content.deciding.classes())
        ],
    }


def class_weights(content: Content, weights: Mapping[int, float]) -> list[dict[str, Any]]:
    """The features that decide a class, by their names."""
    return by_strength(
        {content.label(feature): weight for feature, weight in weights.items()},
        {content.label(feature): content.feature_link(feature) for feature in weights},
    )
