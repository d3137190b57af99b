"""Classes that look alike to the model: the features that they share, and what tells them apart."""

from collections.abc import Mapping
from typing import Any

import torch

from handful.explain.deciding import DecidingFeatures
from handful.report.content import Content
from handful.report.sections.classes import class_weights

#: Pairs that are shown.
SHOWN = 10


def build(content: Content) -> Mapping[str, Any] | None:
    """The pairs with the most similar rows of W, the most similar first."""
    deciding = content.deciding
    if deciding is None or not content.few or len(deciding.names) < 2:
        return None
    alike = similarity(deciding).triu(diagonal=1)
    values, places = alike.flatten().topk(min(SHOWN, alike.numel()))
    pairs = [
        pair(content, int(place) // len(deciding.names), int(place) % len(deciding.names), float(value))
        for value, place in zip(values, places, strict=True)
        if value > 0
    ]
    return {"pairs": pairs} if pairs else None


def similarity(deciding: DecidingFeatures) -> torch.Tensor:
    """Cosines `(C, C)` of the classes' weights."""
    weights = deciding.weights.double()
    unit = weights / weights.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return unit @ unit.T


def pair(content: Content, first: int, second: int, cosine: float) -> dict[str, Any]:
    """Two classes: what they share, and what each has alone."""
    deciding = content.deciding
    assert deciding is not None
    one, other = deciding.weights_in(first), deciding.weights_in(second)
    shared = {f: one[f] for f in one if f in other and one[f] * other[f] > 0}
    counts = deciding.confusion()
    return {
        "names": [deciding.names[first], deciding.names[second]],
        "links": [content.class_link(first), content.class_link(second)],
        "cosine": cosine,
        "confused": int(counts[first, second] + counts[second, first]),
        "shared": class_weights(content, shared),
        "apart": [
            class_weights(content, {f: w for f, w in own.items() if f not in shared}) for own in (one, other)
        ],
    }
