"""Every feature that decides: what it is, the images where it is largest, where it looks, for and against whom."""

from collections.abc import Mapping
from typing import Any

import torch

from handful.explain.meaning import Followed, followed_attributes
from handful.report.cards import FeatureCard
from handful.report.content import Content
from handful.report.effects import by_strength

#: Classes that a feature names on each side; the others are folded.
_NAMED = 3

#: The same where there are many classes, and so many features.
_NAMED_OF_MANY = 2

#: Features on the first page where there are many classes; all are on one of their own.
FIRST = 12


def build(content: Content) -> Mapping[str, Any] | None:
    """A card per feature, those of most classes first."""
    deciding = content.deciding
    if deciding is None or not content.few or content.dataset is None or content.inputs is None:
        return None
    cards = deciding.cards(content.dataset, content.inputs, content.images, content.parts)
    for card, follows in zip(cards, _followed(content), strict=True):
        card.follows = follows
    shown = [_card(card, content) for card in cards]
    return {
        "explained": content.explained,
        "cards": shown[:FIRST] if content.many else shown,
        "all": shown,
        "named": bool(content.feature_names),
        "standardised": deciding.standardised,
    }


def _followed(content: Content) -> list[Followed | None]:
    deciding, attributes = content.deciding, content.attributes
    assert deciding is not None
    if attributes is None:
        return [None] * len(deciding.used)
    features = deciding.features[:, deciding.used].double()
    if len(attributes.present) != len(features):
        classes = range(len(deciding.names))
        features = torch.stack([features[deciding.labels == label].mean(dim=0) for label in classes]).nan_to_num()
    return followed_attributes(features, attributes.present, attributes.names)


def _card(card: FeatureCard, content: Content) -> dict[str, Any]:
    assert content.deciding is not None
    named = _NAMED_OF_MANY if content.many else _NAMED
    links = {name: content.class_link(label) for label, name in enumerate(content.deciding.names)}
    effects = by_strength(card.weights, links)
    sides = [
        ("for", [effect for effect in effects if effect["value"] > 0]),
        ("against", [effect for effect in effects if effect["value"] < 0]),
    ]
    return {
        "number": card.number,
        "label": content.label(card.number),
        "pictures": card.pictures,
        "follows": card.follows,
        "lies_on": card.lies_on,
        "sides": [
            {"words": words, "named": chosen[:named], "more": chosen[named:]} for words, chosen in sides if chosen
        ],
    }
