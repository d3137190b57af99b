"""Names of phases with `*` in them: what a config says of several phases that the configs before it have."""

import copy
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any


def patterns(content: dict[str, Any]) -> list[str]:
    """Return the names of phases of a config that stand for several."""
    phases = content.get("phases")
    return [name for name in phases if "*" in name] if isinstance(phases, dict) else []


def expanded(content: dict[str, Any], before: Iterable[str], final: bool = True) -> dict[str, Any]:
    """Write out what a config says of several phases for each of them.

    What the config says of a phase by its own name wins over what it says of several.

    Args:
        content: of the config.
        before: names of the phases of the configs below it.
        final: whether there are no further configs below it; else the names stay for them. A name that matches none
            stays always.

    Example:
        >>> expanded({"phases": {"finetune*": {"max_epochs": 3}}}, ["dense", "finetune", "finetune_all"])
        {'phases': {'finetune': {'max_epochs': 3}, 'finetune_all': {'max_epochs': 3}}}
    """
    several = patterns(content)
    if not several:
        return content
    phases = content["phases"]
    own = {name: phase for name, phase in phases.items() if name not in several}
    known = list(dict.fromkeys((*before, *own)))
    written: dict[str, Any] = {}
    for pattern in several:
        matching = [name for name in known if fnmatchcase(name, pattern)]
        for name in (*matching, *([] if matching and final else [pattern])):
            written = merged(written, {name: copy.deepcopy(phases[pattern])})
    return {**content, "phases": merged(written, own)}


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return two mappings as one; of what is not a mapping in both, the other's."""
    both = {
        key: merged(one[key], value) if isinstance(one.get(key), dict) and isinstance(value, dict) else value
        for key, value in other.items()
    }
    return {**one, **both}
