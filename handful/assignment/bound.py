"""How far from the optimum a solution can be at most."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from handful.assignment.lagrangian import lagrangian_bound, without_hopeless
from handful.assignment.problem import Assignment, AssignmentProblem
from handful.assignment.semidefinite import Relaxation
from handful.assignment.swaps import greedy
from handful.conversions import check_real

#: Steps between two bounds.
_EVERY = 5

#: A bound that falls by less than this share in so many looks has settled.
_SETTLED, _LOOKS = 1e-5, 4

#: Steps that are taken before it may have.
_FIRST = 50


@dataclass(frozen=True)
class UpperBound:
    """What no solution can exceed.

    Attributes:
        value: of the bound.
        steps: of the method that counts penalties; 0 where there is none to count.
        seconds: spent.

    Example:
        >>> from handful.assignment import Assignment
        >>> bound = UpperBound(value=10.0, steps=1, seconds=0.1)
        >>> bound.gap(Assignment(torch.arange(1), torch.ones(1, 1, dtype=torch.bool), 9.0))
        0.1
    """

    value: float
    steps: int
    seconds: float

    def gap(self, solution: Assignment) -> float:
        """How far a solution may be from the optimum, as a share of the bound."""
        return (self.value - solution.value) / abs(self.value)


def upper_bound(problem: AssignmentProblem, *, seconds: float = 60.0, enough: float = -math.inf) -> UpperBound:
    """A bound on the objective that counts the pair penalties.

    `lagrangian_bound` first, a second's work, which is all where nothing is penalised. Then the semidefinite relaxation
    (`Relaxation`), whose bound falls with every step: of 1,280 features and 100 classes a step takes a third of a CPU
    second, and fifty left 3.4 %. Classes alike and unused features are allowed in it.

    Args:
        problem: the instance; computed on its device.
        seconds: after which no further step starts.
        enough: a value below which the bound need not fall; it also ends where it has settled.

    Raises:
        UserError: a time that is no number of at least 0.

    Example:
        >>> gain = torch.tensor([[3.0, 2.0, 0.0, 1.0], [0.0, 2.0, 3.0, 1.0]])
        >>> problem = AssignmentProblem(gain, torch.zeros(4, 4), torch.zeros(4), n_features=3, features_per_class=2)
        >>> round(upper_bound(problem).value, 2)
        10.0
    """
    check_real("seconds", seconds, 0.0)
    began = time.perf_counter()
    value, multipliers = lagrangian_bound(problem)
    least = problem.set_value(greedy(problem))
    problem = problem.reordered(without_hopeless(problem, value, multipliers, least))
    if problem.n_features == problem.n_candidates:
        value, steps = min(value, problem.set_value(torch.arange(problem.n_features))), 0
    elif problem.penalty.any():
        value, steps = _with_penalties(problem, multipliers, value, max(least, enough), began + seconds)
    else:
        steps = 0
    # a solution that is known, and the features that were left out, can be worth no more than this
    return UpperBound(max(value, least), steps, time.perf_counter() - began)


def _with_penalties(
    problem: AssignmentProblem, multipliers: Tensor, value: float, enough: float, end: float
) -> tuple[float, int]:
    """The bound of the semidefinite relaxation at the end, a time, and the steps until then."""
    relaxation, steps = Relaxation(problem, multipliers), 0
    recent = [value] * _LOOKS
    while value > enough and time.perf_counter() < end:
        for _ in range(_EVERY):
            relaxation.step()
            steps += 1
            if time.perf_counter() >= end:
                break
        value = min(value, relaxation.bound())
        recent = [*recent[1:], value]
        if steps >= _FIRST and recent[0] - value <= _SETTLED * abs(value):
            break
    return value, steps
