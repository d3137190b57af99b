"""Phases that are repeated in rounds, each on what the round before left, without being written again (Q-SENN)."""

import copy
from collections.abc import Mapping
from typing import Any

from handful.errors import UserError, did_you_mean

_KEYS = ("phases", "times", "values")


def with_rounds(phases: Mapping[str, dict[str, Any]], rounds: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Write repeated phases out: `finetune`, `finetune-2`, … in the place of the last of the group.

    In a later round a phase reads what its counterpart reads, of the same round where that is one of the group; the
    first of the group reads the last of the round before.

    Args:
        phases: name → phase in plain values, in order.
        rounds: `phases`, names that follow one another; `times`, how often they run; `values`, name and key of a
            phase → a value per round, as `finetune.max_epochs: [10, 10, 40]`.

    Raises:
        UserError: no such phase or key, phases that do not follow one another, another number of values than rounds.

    Example:
        >>> phases = {"fit": {"module": {"init_args": {"source": "dense"}}, "max_epochs": 1}}
        >>> [phase["max_epochs"] for phase in with_rounds(phases, {
        ...     "phases": ["fit"], "times": 2, "values": {"fit.max_epochs": [1, 5]}}).values()]
        [1, 5]
    """
    if not rounds:
        return dict(phases)
    group, times, values = _checked(phases, rounds)
    names = list(phases)
    found = {name: phases[name] for name in names[: names.index(group[-1]) + 1]}
    for turn in range(2, times + 1):
        before = group[-1] if turn == 2 else f"{group[-1]}-{turn - 1}"
        for name in group:
            phase = copy.deepcopy(phases[name])
            arguments = phase["module"].setdefault("init_args", {})
            source = arguments.get("source")
            arguments["source"] = before if name == group[0] else f"{source}-{turn}" if source in group else source
            found[f"{name}-{turn}"] = phase
    for path, given in values.items():
        name, _, key = path.partition(".")
        for turn, value in enumerate(given, start=1):
            own = name if turn == 1 else f"{name}-{turn}"
            found[own] = copy.deepcopy(found[own])
            _put(found[own], key.split("."), value, f"rounds.values.{path}")
    return found | {name: phases[name] for name in names[names.index(group[-1]) + 1 :]}


def _checked(
    phases: Mapping[str, Any], rounds: Mapping[str, Any]
) -> tuple[list[str], int, dict[str, list[Any]]]:
    """The parts of `rounds`."""
    for key in rounds:
        if key not in _KEYS:
            raise UserError(f"rounds: no key {key!r}{did_you_mean(str(key), _KEYS)}; there are {', '.join(_KEYS)}")
    group, times, values = rounds.get("phases"), rounds.get("times", 1), rounds.get("values") or {}
    if not isinstance(group, list) or not group:
        raise UserError("rounds.phases: a list of phases is missing")
    names = list(phases)
    for name in group:
        if name not in names:
            raise UserError(f"rounds.phases: no phase {name!r}{did_you_mean(str(name), names)}")
        if not isinstance((phases[name]["module"].get("init_args") or {}).get("source"), str):
            raise UserError(f"rounds.phases: {name} reads no source, so nothing changes from round to round")
    first = names.index(group[0])
    if names[first : first + len(group)] != group:
        raise UserError(f"rounds.phases: {', '.join(group)} do not follow one another in this order")
    if not isinstance(times, int) or isinstance(times, bool) or times < 1:
        raise UserError(f"rounds.times: a whole number from 1, not {times!r}")
    if not isinstance(values, dict):
        raise UserError("rounds.values: a mapping, phase and key → a list of values")
    for path, given in values.items():
        if path.partition(".")[0] not in group:
            raise UserError(f"rounds.values.{path}: not of a phase of the rounds, {', '.join(group)}")
        if not isinstance(given, list) or len(given) != times:
            raise UserError(f"rounds.values.{path}: a list of {times} values, one per round, not {given!r:.60}")
    taken = [f"{name}-{turn}" for turn in range(2, times + 1) for name in group if f"{name}-{turn}" in phases]
    if taken:
        raise UserError(f"rounds: there is a phase {taken[0]!r} already; start from the config that it was written in")
    return group, times, values


def _put(phase: dict[str, Any], keys: list[str], value: Any, where: str) -> None:
    """Set a value that is there already."""
    for key in keys[:-1]:
        phase = phase.get(key)  # type: ignore[assignment]
        if not isinstance(phase, dict):
            raise UserError(f"{where}: there is no {key!r} in the phase")
    if keys[-1] not in phase:
        raise UserError(f"{where}: there is no {keys[-1]!r} in the phase{did_you_mean(keys[-1], phase)}")
    phase[keys[-1]] = value
