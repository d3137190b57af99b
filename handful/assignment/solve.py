"""Solve an assignment problem: search for the set, complete it, improve the complete solution."""

from __future__ import annotations

from torch import Tensor

from handful.assignment.completion import Completion, complete
from handful.assignment.exact import solve_exactly
from handful.assignment.order import canonical_order, inverse
from handful.assignment.problem import Assignment, AssignmentProblem
from handful.assignment.search import DEFAULT_SEARCH, Search, local_search
from handful.assignment.swaps import SwapTable
from handful.errors import UserError

#: Classes times candidates up to which an instance is solved to its optimum, in about a second.
SMALL = 400

#: Sets that are completed where pairs of classes have to share features, which takes longer.
_WITH_PAIRS = 4

#: Sets that are completed otherwise.
_SETS = 8

#: Exchanges that are completed in the last improvement, in all and per step; a completion may take a quarter second.
_LOOKS, _LOOKS_PER_STEP = 96, 32


def solve(problem: AssignmentProblem, search: Search = DEFAULT_SEARCH, start: Tensor | None = None) -> Assignment:
    """A good solution within seconds; determinate for a seed.

    The local search relaxes "no two classes alike, every feature used"; a set's value there is an upper bound for that
    set. So only sets whose bound exceeds the best complete solution are completed. Small instances are solved to the
    optimum (`solve_exactly`). The order of the features does not reach the choice, except that of equal ones.

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
        exact = solve_exactly(ordered)
        if exact.pairs >= problem.pairs:
            return exact.reordered(order)
        start = exact.selection
    return by_search(ordered, search, start).reordered(order)


def by_search(problem: AssignmentProblem, search: Search = DEFAULT_SEARCH, start: Tensor | None = None) -> Assignment:
    """The same by local search alone, whatever the size."""
    selection, found = _best_completion(problem, local_search(problem, search, start))
    looks = _LOOKS
    while looks > 0:
        better, used = _better_neighbour(problem, selection, found, min(looks, _LOOKS_PER_STEP))
        looks -= used
        if better is None:
            break
        selection, found = better
    return Assignment(selection, found.assignment, found.value)


def _best_completion(problem: AssignmentProblem, sets: list[Tensor]) -> tuple[Tensor, Completion]:
    """The best complete solution over sets by falling bound."""
    best: tuple[Tensor, Completion] | None = None
    failure: UserError | None = None
    for selection in sets[: _WITH_PAIRS if problem.pairs else _SETS]:
        if best is not None and problem.set_value(selection) <= best[1].value:
            break
        try:
            found = complete(problem, selection)
        except UserError as error:
            failure = error
            continue
        if best is None or found.value > best[1].value:
            best = selection, found
    if best is None:
        raise failure or UserError("no set of features was found")
    return best


def _better_neighbour(
    problem: AssignmentProblem, selection: Tensor, found: Completion, looks: int
) -> tuple[tuple[Tensor, Completion] | None, int]:
    """The first exchange, by falling bound, whose completion is better, None where there is none; and looks taken."""
    # with pairs a completion takes too long to look at many
    if found.lost <= 0 or problem.pairs or problem.n_features == problem.n_candidates:
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
