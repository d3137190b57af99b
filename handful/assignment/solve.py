"""Solve an assignment problem: search for the set, complete it, improve the complete solution."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from handful.assignment.completion import Completion, complete
from handful.assignment.exact import NotSolvedError, solve_exactly
from handful.assignment.order import canonical_order, inverse
from handful.assignment.problem import Assignment, AssignmentProblem
from handful.assignment.search import DEFAULT_SEARCH, Search, local_search
from handful.assignment.swaps import SwapTable
from handful.errors import UserError

#: Classes times candidates up to which an instance is solved to its optimum, mostly in about a second.
SMALL = 400

#: Pairs of classes times candidates up to which that is so where pairs of classes have to share features: 2.5 s at
#: 120, longer than the local search at 180, more than 20 seconds at 360.
_SMALL_PAIRS = 120

#: Nodes of branch and bound after which the local search takes its place.
_NODES = 1000


@dataclass(frozen=True)
class _Effort:
    """How many completions are looked at.

    Attributes:
        sets: of the search that are completed.
        starts: complete solutions that are improved by exchanges.
        looks: exchanges that are completed for a start, in all.
        per_step: the same between two improvements.
    """

    sets: int
    starts: int
    looks: int
    per_step: int


#: Where pairs of classes have to share features, of which a completion takes longest; otherwise, where it may take a
#: quarter second; and of classes times features up to `SMALL`, where it takes no time.
_WITH_PAIRS, _USUAL, _SMALL = _Effort(4, 1, 0, 0), _Effort(8, 1, 96, 32), _Effort(32, 8, 384, 128)


def solve(problem: AssignmentProblem, search: Search = DEFAULT_SEARCH, start: Tensor | None = None) -> Assignment:
    """A good solution within seconds; determinate for a seed.

    The local search relaxes "no two classes alike, every feature used"; a set's value there is an upper bound for that
    set. So only sets whose bound exceeds the best complete solution are completed. Small instances are solved to the
    optimum (`solve_exactly`); where that takes too many nodes of branch and bound, by the local search like the others.
    The order of the features does not reach the choice, except that of equal ones.

    Args:
        problem: the instance; the search runs on its device.
        search: length and seed of the local search.
        start: (n,) a first set; a greedy one where None.

    Raises:
        UserError: no set that was found keeps all classes apart.

    Example:
        >>> import torch
        >>> gain = torch.tensor([[3.0, 2.0, 0.0, 1.0], [0.0, 2.0, 3.0, 1.0]])
        >>> problem = AssignmentProblem(gain, torch.zeros(4, 4), torch.zeros(4), n_features=3, features_per_class=2)
        >>> solution = solve(problem)
        >>> solution.selection.tolist(), solution.value
        ([0, 1, 2], 10.0)
    """
    order = canonical_order(problem.gain, problem.bias)
    ordered = problem.reordered(order)
    if start is not None:
        start = inverse(order)[start.to(order.device)]
    elif problem.n_candidates * problem.n_classes <= SMALL:
        try:
            exact = solve_exactly(replace(ordered, pairs=0), nodes=_NODES)
            if exact.pairs >= problem.pairs:
                return exact.reordered(order)
            start = exact.selection
            if problem.n_candidates * problem.n_classes * (problem.n_classes - 1) // 2 <= _SMALL_PAIRS:
                return solve_exactly(ordered, nodes=_NODES).reordered(order)
        except NotSolvedError:
            pass
    return by_search(ordered, search, start).reordered(order)


def by_search(problem: AssignmentProblem, search: Search = DEFAULT_SEARCH, start: Tensor | None = None) -> Assignment:
    """The same by local search alone, whatever the size."""
    small = problem.n_classes * problem.n_features <= SMALL
    effort = _WITH_PAIRS if problem.pairs else _SMALL if small else _USUAL
    starts = _completions(problem, local_search(problem, search, start), effort)
    best = max((_improved(problem, *one, effort) for one in starts), key=lambda one: one[1].value)
    return Assignment(best[0], best[1].assignment, best[1].value)


def _improved(
    problem: AssignmentProblem, selection: Tensor, found: Completion, effort: _Effort
) -> tuple[Tensor, Completion]:
    """A complete solution after exchanges of one feature for another that make it better."""
    looks = effort.looks
    while looks > 0:
        better, used = _better_neighbour(problem, selection, found, min(looks, effort.per_step))
        looks -= used
        if better is None:
            break
        selection, found = better
    return selection, found


def _completions(
    problem: AssignmentProblem, sets: list[Tensor], effort: _Effort
) -> list[tuple[Tensor, Completion]]:
    """The best complete solutions over sets by falling bound, the best first."""
    solutions: list[tuple[Tensor, Completion]] = []
    failure: UserError | None = None
    for selection in sets[: effort.sets]:
        worst = min((one[1].value for one in solutions[: effort.starts]), default=0.0)
        if len(solutions) >= effort.starts and problem.set_value(selection) <= worst:
            break
        try:
            solutions.append((selection, complete(problem, selection)))
        except UserError as error:
            failure = error
        solutions.sort(key=lambda one: -one[1].value)
    if not solutions:
        raise failure or UserError("no set of features was found")
    return solutions[: effort.starts]


def _better_neighbour(
    problem: AssignmentProblem, selection: Tensor, found: Completion, looks: int
) -> tuple[tuple[Tensor, Completion] | None, int]:
    """The first exchange, by falling bound, whose completion is better, None where there is none; and looks taken."""
    if found.lost <= 0 or problem.n_features == problem.n_candidates:
        return None, 0
    state = SwapTable(problem, selection)
    bound = state.changes() + problem.set_value(selection)
    least = found.value + 1e-9 * max(1.0, abs(found.value))
    count = min(looks, int((bound > least).sum()))
    for look, flat in enumerate(bound.flatten().topk(count).indices.tolist(), start=1):
        position, feature = divmod(flat, problem.n_candidates)
        other = state.selection.clone()
        other[position] = feature
        other = other.sort().values
        try:
            completion = complete(problem, other)
        except UserError:  # this set cannot keep the classes apart
            continue
        if completion.value > least:
            return (other, completion), look
    return None, looks
