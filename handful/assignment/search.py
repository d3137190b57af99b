"""Local search for the set of features: greedy start, best swaps with tabu memory, restarts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from handful.assignment.problem import AssignmentProblem
from handful.assignment.swaps import SwapTable, greedy
from handful.conversions import check_real, check_whole

#: Best sets of descents that restarts start from.
_PEAKS = 8

#: A change below this share of the objective's size is not an improvement.
_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Search:
    """How long the local search looks; bounded by steps, not by seconds, so that it is determinate.

    Attributes:
        patience: steps without a new best value after which a descent ends.
        restarts: descents after the first; each exchanges a share of the best set and starts from there.
        exchange: that share, in (0, 1].
        crossed: share of the restarts that start from what the best sets of two descents have in common.
        seed: of the exchanged features and of how long a feature stays forbidden.

    Raises:
        UserError: a value out of range.

    Example:
        >>> Search(restarts=2).patience
        150
    """

    patience: int = 150
    restarts: int = 12
    exchange: float = 0.2
    crossed: float = 0.75
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        check_whole("patience", self.patience, 0)
        check_whole("restarts", self.restarts, 0)
        check_whole("seed", self.seed, 0, 2**63 - 1)
        check_real("exchange", self.exchange, 0.0, 1.0, open_below=True)
        check_real("crossed", self.crossed, 0.0, 1.0)


#: Some five seconds for the choice of 50 of 2,048 features.
DEFAULT_SEARCH = Search()


def local_search(
    problem: AssignmentProblem, search: Search = DEFAULT_SEARCH, start: Tensor | None = None
) -> list[Tensor]:
    """The best sets `(n,)` found, best first and each ascending, with equal classes and unused features allowed.

    Args:
        problem: the instance; the search runs on its device.
        search: its length and seed.
        start: (n,) the first set; the greedy one where None.
    """
    generator = torch.Generator().manual_seed(search.seed)
    first = greedy(problem) if start is None else start.to(problem.gain.device)
    pool = _Pool()
    pool.add(problem.set_value(first), first)
    if problem.n_features == problem.n_candidates:
        return pool.sets
    peaks = _Pool(_PEAKS)
    for turn in range(search.restarts + 1):
        begin = first
        if turn:
            ranked = peaks.sets
            base = ranked[int(len(ranked) * float(torch.rand((), generator=generator)) ** 2)]
            begin = _exchanged(problem, base, search.exchange, generator)
            if len(ranked) > 1 and torch.rand((), generator=generator) < search.crossed:
                other = ranked[int(torch.randint(len(ranked), (), generator=generator))]
                begin = _crossed(problem, base, other, generator)
        peak = _descend(problem, begin, pool, search.patience, generator)
        peaks.add(problem.set_value(peak), peak)
    return pool.sets


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

    @property
    def best(self) -> Tensor:
        return self.sets[0]

    @property
    def sets(self) -> list[Tensor]:
        ranked = sorted(self._values, key=lambda key: (-self._values[key], key))
        return [torch.tensor(key, device=self._device) for key in ranked]


def _crossed(problem: AssignmentProblem, one: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """What two sets have in common, and a random half of the rest; a feature in ten by chance."""
    weight = torch.full((problem.n_candidates,), 1e-3)
    weight[torch.cat([one, other]).cpu()] = 1.0
    common = one[torch.isin(one, other)].cpu()
    order = torch.rand(problem.n_candidates, generator=generator) * weight
    order[common] = 2.0
    leaving = common[torch.rand(len(common), generator=generator) < 0.1]
    order[leaving] = 0.0
    return order.topk(problem.n_features).indices.to(one.device)


def _exchanged(problem: AssignmentProblem, best: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The best set with a share of its features replaced at random."""
    outside = torch.ones(problem.n_candidates, dtype=torch.bool, device=best.device)
    outside[best] = False
    pool = outside.nonzero()[:, 0]
    count = min(max(1, round(share * len(best))), len(pool))
    start = best.clone()
    leaving = torch.randperm(len(best), generator=generator)[:count].to(best.device)
    start[leaving] = pool[torch.randperm(len(pool), generator=generator)[:count].to(best.device)]
    return start


def _descend(
    problem: AssignmentProblem, start: Tensor, pool: _Pool, patience: int, generator: torch.Generator
) -> Tensor:
    """Best swaps; one that undoes a recent swap is allowed only where it gives a new best value. Returns the best set.

    Swaps are compared in float32; values of sets that count are computed in float64.
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
        tabu = (may_leave[state.selection] > step)[:, None] | (may_enter > step)
        change.masked_fill_(tabu & (change <= best_value - value), -torch.inf)
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
