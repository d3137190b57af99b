"""Nested mappings by paths."""

from collections.abc import Mapping
from typing import Any


def flat(values: Mapping[str, Any], separator: str, above: str = "") -> dict[str, Any]:
    """The plain values of nested mappings by their paths; an empty mapping has none.

    Example:
        >>> flat({"a": {"b": 1, "c": {}}, "d": 2}, ".")
        {'a.b': 1, 'd': 2}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, separator, f"{above}{name}{separator}")
        else:
            found[f"{above}{name}"] = value
    return found
