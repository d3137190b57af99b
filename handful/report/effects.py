"""Weights as pages list and colour them."""

from collections.abc import Mapping
from typing import Any

#: A weight below this share of its class's largest is grey.
TINY = 0.01


def by_strength(weights: Mapping[Any, float], links: Mapping[Any, str] | None = None) -> list[dict[str, Any]]:
    """Weights by name, the strongest first.

    Args:
        weights: name → weight.
        links: name → address.

    Example:
        >>> [weight["name"] for weight in by_strength({"wren": 0.2, "owl": -1.0})]
        ['owl', 'wren']
    """
    order = sorted(weights.items(), key=lambda pair: -abs(pair[1]))
    largest = abs(order[0][1]) if order else 0.0
    return [
        {"name": str(name), "value": value, "kind": kind(value, largest), "link": (links or {}).get(name, "")}
        for name, value in order
    ]


def kind(value: float, largest: float) -> str:
    """How a weight is coloured: "for", "against", or "tiny" below one per cent of the class's largest.

    Example:
        >>> kind(-0.5, 1.0), kind(0.001, 1.0)
        ('against', 'tiny')
    """
    if abs(value) < TINY * abs(largest):
        return "tiny"
    return "for" if value > 0 else "against"
