"""Keys of a config with dots, which the parsers take for keys within keys."""

from collections.abc import Mapping
from typing import Any


def nested(content: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping without dots in its keys, in those of its phases and of each phase; what lies deeper stays.

    The name of a class becomes a mapping where a key reaches into it.

    Example:
        >>> nested({"wandb.mode": "disabled", "data": "ToyBirds", "data.init_args.seed": 1})
        {'wandb': {'mode': 'disabled'}, 'data': {'class_path': 'ToyBirds', 'init_args': {'seed': 1}}}
    """
    whole = _flat(content)
    phases = whole.get("phases")
    if isinstance(phases, Mapping):
        whole["phases"] = {
            name: _flat(phase) if isinstance(phase, Mapping) else phase for name, phase in _flat(phases).items()
        }
    return whole


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping of which no key has dots."""
    whole: dict[str, Any] = {}
    for key, value in content.items():
        *path, last = key.split(".")
        target = whole
        for part in path:
            inner = target.get(part)
            inner = {"class_path": inner} if isinstance(inner, str) else inner
            target[part] = dict(inner) if isinstance(inner, Mapping) else {}
            target = target[part]
        target[last] = _merged(target.get(last), value)
    return whole


def _merged(below: Any, value: Any) -> Any:
    """Two values of a key: mappings as one, of anything else the second."""
    if not (isinstance(below, Mapping) and isinstance(value, Mapping)):
        return value
    return {**below, **{key: _merged(below.get(key), item) for key, item in value.items()}}
