"""Every feature that decides: the images where it is largest, where it looks, the classes for and against it."""

from collections.abc import Mapping
from typing import Any

from handful.report.cards import FeatureCard
from handful.report.content import Content
from handful.report.effects import by_strength

#: Classes that a feature names on each side.
_NAMED = 6


def build(content: Content) -> Mapping[str, Any] | None:
    """A card per feature, those of most classes first."""
    if content.deciding is None or not content.few or content.dataset is None or content.inputs is None:
        return None
    cards = content.deciding.cards(content.dataset, content.inputs, content.images)
    return {"explained": content.explained, "cards": [_card(card) for card in cards]}


def _card(card: FeatureCard) -> dict[str, Any]:
    effects = by_strength(card.effects)
    sides = [
        ("speaks for", [effect for effect in effects if effect["value"] > 0]),
        ("against", [effect for effect in effects if effect["value"] < 0]),
    ]
    return {
        "number": card.number,
        "pictures": card.pictures,
        "sides": [
            {"words": words, "named": chosen[:_NAMED], "more": max(0, len(chosen) - _NAMED)}
            for words, chosen in sides
            if chosen
        ],
    }
