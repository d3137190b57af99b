"""Weights by name, as pages list them."""

from collections.abc import Mapping
from typing import Any


def by_strength(effects: Mapping[Any, float], sign: str = "") -> list[dict[str, Any]]:
    """Weights by name, the strongest first.

    Args:
        effects: name → weight.
        sign: stands between name and number.

    Example:
        >>> [effect["name"] for effect in by_strength({"wren": 0.2, "owl": -1.0})]
        ['owl', 'wren']
    """
    order = sorted(effects.items(), key=lambda pair: -abs(pair[1]))
    return [{"name": str(name), "sign": sign, "value": value} for name, value in order]
