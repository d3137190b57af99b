"""Local search for the set of features: best swaps with tabu memory, from greedy starts and crossings of sets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from handful.assignment.problem import AssignmentProblem
from handful.assignment.swaps import SwapTable, greedy
from handful.conversions import check_whole

#: Best sets of descents that restarts are crossed from.
_PEAKS = 8

#: Restarts that start from a greedy set of a random half of the features, and end sooner; the others cross two peaks.
_DRAWN = 10

#: Features that crossings look at: so many per chosen feature, and at least so many.
_PER_CHOSEN, _AT_LEAST = 12, 600

#: Steps of the last descent, over all features, without a new best value.
_LAST = 30

#: A change below this share of the objective's size is not an improvement.
_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Search:
    """How long the local search looks; bounded by steps, not by seconds, so that it is determinate.

    Attributes:
        patience: steps without a new best value after which a descent ends.
        restarts: descents after the first: ten from greedy sets of features drawn at random, then from what the best
            sets of two descents have in common and a random choice of the rest.
        seed: of what is drawn, and of how long a feature stays forbidden.

    Raises:
        UserError: a value out of range.

    Example:
        >>> Search(restarts=2).patience
        100
    """

    patience: int = 100
    restarts: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        check_whole("patience", self.patience, 0)
        check_whole("restarts", self.restarts, 0)
        check_whole("seed", self.seed, 0, 2**63 - 1)


#: Some five seconds for the choice of 50 of 2,048 features.
DEFAULT_SEARCH = Search()


def local_search(
    problem: AssignmentProblem, search: Search = DEFAULT_SEARCH, start: Tensor | None = None
) -> list[Tensor]:
    """The best sets `(n,)` found, best first and each ascending, with equal classes and unused features allowed.

    The first descents look at all features. The others start from crossings of what these have found and look only at
    features that came close to a good set, for which a step takes a fraction of the time; a last, short descent from
    the best set looks at all again.

    Args:
        problem: the instance; the search runs on its device.
        search: its length and seed.
        start: (n,) the first set; the greedy one where None.
    """
    generator = torch.Generator().manual_seed(search.seed)
    first = greedy(problem) if start is None else start.to(problem.gain.device)
    pool, peaks = _Pool(), _Pool(_PEAKS)
    pool.add(problem.set_value(first), first)
    if problem.n_features == problem.n_candidates:
        return pool.sets
    reach = torch.full_like(problem.bias, -torch.inf, dtype=torch.float32)
    for turn in range(min(search.restarts, _DRAWN) + 1):
        begin = _drawn(problem, generator) if turn else first
        peak = _descend(problem, begin, pool, search.patience // (2 if turn else 1), generator, reach)
        peaks.add(problem.set_value(peak), peak)
    if search.restarts > _DRAWN:
        kept = _close(problem, torch.cat([*peaks.sets, *pool.sets]), reach)
        fewer, found = problem.reordered(kept), pool.renumbered(kept)
        _cross(fewer, peaks.renumbered(kept), found, search, generator)
        for one in found.sets:
            pool.add(problem.set_value(kept[one]), kept[one])
        if len(kept) < problem.n_candidates:
            _descend(problem, pool.sets[0], pool, min(search.patience, _LAST), generator)
    return pool.sets


def _close(problem: AssignmentProblem, needed: Tensor, reach: Tensor) -> Tensor:
    """The features `(G,)`, ascending, that came closest to a good set, and those that are needed.

    Args:
        problem: the instance.
        needed: features, in any order and number.
        reach: (F,) the best value of a set with the feature that a descent has looked at.
    """
    count = max(_PER_CHOSEN * problem.n_features, _AT_LEAST, len(needed.unique()))
    order = reach.index_fill(0, needed, torch.inf).argsort(descending=True, stable=True)
    return order[:count].sort().values


def _cross(
    problem: AssignmentProblem, peaks: _Pool, pool: _Pool, search: Search, generator: torch.Generator
) -> None:
    """Descend from crossings of two of the best sets that descents have ended at, again and again."""
    for _ in range(search.restarts - _DRAWN):
        ranked = peaks.sets
        if len(ranked) < 2:
            begin = _drawn(problem, generator)
        else:
            one, other = torch.randperm(len(ranked), generator=generator)[:2].tolist()
            begin = _crossed(problem, ranked[one], ranked[other], generator)
        peak = _descend(problem, begin, pool, search.patience, generator)
        peaks.add(problem.set_value(peak), peak)


class _Pool:
    """The best sets met, each once."""

    def __init__(self, size: int = 32) -> None:
        self.size = size
        self._values: dict[tuple[int, ...], float] = {}
        self._device = torch.device("cpu")
        #: Sets of lower value are not kept.
        self.least = -float("inf")

    def add(self, value: float, selection: Tensor) -> None:
        self._device = selection.device
        self._values[tuple(selection.sort().values.tolist())] = value
        if len(self._values) > self.size:
            del self._values[min(self._values, key=lambda key: self._values[key])]
            self.least = min(self._values.values())

    def renumbered(self, kept: Tensor) -> _Pool:
        """The same of the features `kept (G,)`, ascending, which hold every set, as numbers of their places there."""
        found = _Pool(self.size)
        for key, value in self._values.items():
            found.add(value, torch.searchsorted(kept, torch.tensor(key, device=kept.device)))
        return found

    @property
    def sets(self) -> list[Tensor]:
        ranked = sorted(self._values, key=lambda key: (-self._values[key], key))
        return [torch.tensor(key, device=self._device) for key in ranked]


def _drawn(problem: AssignmentProblem, generator: torch.Generator) -> Tensor:
    """The greedy set of half of the features, drawn at random."""
    count = max(problem.n_features, problem.n_candidates // 2)
    some = torch.randperm(problem.n_candidates, generator=generator)[:count].sort().values.to(problem.gain.device)
    return some[greedy(problem.reordered(some))]


def _crossed(problem: AssignmentProblem, one: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """What two sets have in common, a tenth left out by chance, and a random choice of the rest of them."""
    one, other = one.cpu(), other.cpu()
    order = 1e-3 * torch.rand(problem.n_candidates, generator=generator)
    both = torch.cat([one, other])
    order[both] = torch.rand(len(both), generator=generator)
    common = one[torch.isin(one, other)]
    order[common] = 2.0
    order[common[torch.rand(len(common), generator=generator) < 0.1]] = 0.0
    return order.topk(problem.n_features).indices.to(problem.gain.device)


def _descend(
    problem: AssignmentProblem,
    start: Tensor,
    pool: _Pool,
    patience: int,
    generator: torch.Generator,
    reach: Tensor | None = None,
) -> Tensor:
    """Best swaps; one that undoes a recent swap is allowed only where it gives a new best value. Returns the best set.

    Swaps are compared in float32; values of sets that count are computed in float64. `reach (F,)` is raised to the best
    value of a set with each feature that a swap could have given.
    """
    state = SwapTable(problem, start, torch.float32)
    best_value = value = problem.set_value(state.selection)
    best = state.selection.clone()
    stale = step = 0
    near = 1e-4 * max(1.0, abs(value))  # more than the rounding of a descent's changes adds up to
    may_enter = torch.zeros(problem.n_candidates, dtype=torch.int64, device=problem.gain.device)
    may_leave = torch.zeros_like(may_enter)
    while stale < patience:
        change = state.changes()
        if reach is not None:
            torch.maximum(reach, change.amax(dim=0) + value, out=reach)
        place = int(change.argmax())
        if float(change.view(-1)[place]) <= best_value - value:  # no new best value: what was moved lately stays
            change[may_leave[state.selection] > step] = -torch.inf
            change[:, may_enter > step] = -torch.inf
            place = int(change.argmax())
        position, feature = divmod(place, problem.n_candidates)
        gained = float(change[position, feature])
        if gained == -torch.inf:
            break
        old = state.swap(position, feature)
        step += 1
        tenure = torch.randint(5, 12, (2,), generator=generator).tolist()
        may_enter[old], may_leave[feature] = step + tenure[0], step + tenure[1]
        value += gained
        stale += 1
        if value > min(pool.least, best_value) - near:
            value = problem.set_value(state.selection)
            if value > pool.least:
                pool.add(value, state.selection)
        if value > best_value + _TOLERANCE * abs(best_value):
            best_value, best, stale = value, state.selection.clone(), 0
    return best
