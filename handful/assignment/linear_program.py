"""The problem as a linear program whose rows are added as they are violated: a bound, or a small instance's optimum."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import coo_matrix

from handful.assignment.lagrangian import lagrangian_bound
from handful.assignment.problem import Assignment, AssignmentProblem
from handful.errors import UserError

_EPSILON = 1e-6


@dataclass(frozen=True)
class UpperBound:
    """What no solution can exceed.

    Attributes:
        value: of the bound.
        rounds: linear programs solved.
        seconds: spent.

    Example:
        >>> from handful.assignment import Assignment
        >>> bound = UpperBound(value=10.0, rounds=1, seconds=0.1)
        >>> bound.gap(Assignment(torch.arange(1), torch.ones(1, 1, dtype=torch.bool), 9.0))
        0.1
    """

    value: float
    rounds: int
    seconds: float

    def gap(self, solution: Assignment) -> float:
        """How far a solution may be from the optimum, as a share of the bound."""
        return (self.value - solution.value) / abs(self.value)


def upper_bound(problem: AssignmentProblem, *, seconds: float = 60.0, width: int = 40) -> UpperBound:
    """A bound on the objective that counts the pair penalties.

    `lagrangian_bound` first, which is all where nothing is penalised. Then a linear program: every class gets variables
    for its `width` best features and one for all others at the next gain; rows for pairs and for cliques of similar
    features are added while they are violated. Every round's value is a bound.

    Args:
        problem: the instance.
        seconds: after which no further round starts.
        width: features per class with a variable of their own; more tighten the bound and cost time.

    Example:
        >>> gain = torch.tensor([[3.0, 2.0, 0.0, 1.0], [0.0, 2.0, 3.0, 1.0]])
        >>> problem = AssignmentProblem(gain, torch.zeros(4, 4), torch.zeros(4), n_features=3, features_per_class=2)
        >>> round(upper_bound(problem).value, 2)
        10.0
    """
    began = time.perf_counter()
    value, rounds = lagrangian_bound(problem), 0
    if not problem.penalty.any():
        return UpperBound(value, rounds, time.perf_counter() - began)
    program = _Program(problem, min(width, problem.n_candidates))
    while True:
        result = program.solve()
        rounds += 1
        value = min(value, -float(result.fun))
        if not program.add_violated(result.x) or time.perf_counter() - began > seconds:
            return UpperBound(value, rounds, time.perf_counter() - began)


def solve_exactly(problem: AssignmentProblem, *, seconds: float = 600.0) -> Assignment:
    """The optimum of a small instance (some forty features, eight classes), by branch and bound (HiGHS).

    Raises:
        UserError: not solved within the time.

    Example:
        >>> gain = torch.tensor([[3.0, 2.0, 0.0, 1.0], [0.0, 2.0, 3.0, 1.0]])
        >>> problem = AssignmentProblem(gain, torch.zeros(4, 4), torch.zeros(4), n_features=3, features_per_class=2)
        >>> solve_exactly(problem).selection.tolist()
        [0, 1, 2]
    """
    program = _Program(problem, problem.n_candidates, integral=True)
    for i, j in problem.penalty.triu().nonzero().tolist():
        program.pair_row(i, j)
    began = time.perf_counter()
    while True:
        left = seconds - (time.perf_counter() - began)
        result = program.solve(max(left, 0.1))
        if result.status != 0:
            raise UserError(f"not solved exactly within {seconds:g} seconds; use the local search")
        selection, assignment = program.solution(result.x)
        alike = _alike(assignment)
        if not alike:
            selection, assignment = (part.to(problem.gain.device) for part in (selection, assignment))
            return Assignment(selection, assignment, problem.value(selection, assignment))
        for classes in alike:
            program.differ(classes, selection[assignment[classes[0]]].tolist())


def _alike(assignment: torch.Tensor) -> list[list[int]]:
    """Groups of classes with the same features."""
    groups: dict[tuple[bool, ...], list[int]] = {}
    for c, row in enumerate(assignment.tolist()):
        groups.setdefault(tuple(row), []).append(c)
    return [classes for classes in groups.values() if len(classes) > 1]


@dataclass
class _Rows:
    """Rows `low ≤ A x ≤ high`, collected one by one."""

    entries: list[tuple[int, int, float]] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, coefficients: Iterable[tuple[int, float]], low: float, high: float) -> None:
        row = len(self.low)
        self.entries += [(row, column, value) for column, value in coefficients]
        self.low.append(low)
        self.high.append(high)

    def constraint(self, width: int) -> LinearConstraint:
        row, column, value = zip(*self.entries, strict=True)
        matrix = coo_matrix((value, (row, column)), shape=(len(self.low), width))
        return LinearConstraint(matrix.tocsr(), self.low, self.high)


class _Program:
    """Variables: s (F), then E of every class's best features, then one for a class's other features, then pairs."""

    def __init__(self, problem: AssignmentProblem, width: int, integral: bool = False) -> None:
        self.problem, self.integral = problem, integral
        gain = problem.gain.cpu()
        n_classes, n_candidates, k = problem.n_classes, problem.n_candidates, problem.features_per_class
        self.penalty: NDArray[np.float64] = problem.penalty.cpu().numpy()
        order = gain.argsort(dim=1, descending=True, stable=True)
        self.cost: list[float] = (-problem.bias.cpu()).tolist()
        self.most: list[float] = [1.0] * n_candidates
        self.rows = _Rows()
        self.pairs: dict[tuple[int, int], int] = {}
        self.columns: dict[tuple[int, int], int] = {}
        self.rows.add([(i, 1.0) for i in range(n_candidates)], problem.n_features, problem.n_features)
        used: list[list[int]] = [[] for _ in range(n_candidates)]
        for c in range(n_classes):
            row = []
            for i in order[c, :width].tolist():
                column = self._variable(-float(gain[c, i]))
                self.columns[c, i] = column
                self.rows.add([(column, 1.0), (i, -1.0)], -np.inf, 0.0)
                row.append(column)
                used[i].append(column)
            if width < n_candidates:
                row.append(self._variable(-float(gain[c, order[c, width]]), most=k))
            self.rows.add([(column, 1.0) for column in row], k, k)
        if width == n_candidates:
            for i, columns in enumerate(used):
                self.rows.add([*((column, 1.0) for column in columns), (i, -1.0)], 0.0, np.inf)

    def _variable(self, cost: float, most: float = 1.0) -> int:
        self.cost.append(cost)
        self.most.append(most)
        return len(self.cost) - 1

    def pair(self, i: int, j: int) -> int:
        """The variable that is 1 where both features are chosen."""
        key = (min(i, j), max(i, j))
        if key not in self.pairs:
            self.pairs[key] = self._variable(float(self.penalty[key]))
        return self.pairs[key]

    def pair_row(self, i: int, j: int) -> None:
        """Both chosen: the penalty is due."""
        self.rows.add([(self.pair(i, j), 1.0), (i, -1.0), (j, -1.0)], -1.0, np.inf)

    def clique_row(self, members: list[int], count: int) -> None:
        """M of a clique's features make m(m−1)/2 pairs, at least `count`·m − count(count+1)/2 for any whole `count`."""
        row = [(self.pair(i, j), 1.0) for i, j in combinations(members, 2)]
        self.rows.add([*row, *((i, -float(count)) for i in members)], -count * (count + 1) / 2, np.inf)

    def differ(self, classes: list[int], features: list[int]) -> None:
        """No two of the classes may have exactly these features."""
        for one, other in combinations(range(self.problem.n_classes), 2):
            if one in classes or other in classes:
                row = [(self.columns[c, i], 1.0) for c in (one, other) for i in features]
                self.rows.add(row, -np.inf, 2 * self.problem.features_per_class - 1)

    def solve(self, seconds: float | None = None) -> OptimizeResult:
        """Solve what has been collected."""
        result = milp(
            np.array(self.cost),
            constraints=self.rows.constraint(len(self.cost)),
            bounds=Bounds(0.0, np.array(self.most)),
            integrality=self._integrality(),
            options={"mip_rel_gap": 0.0} | ({} if seconds is None else {"time_limit": seconds}),
        )
        if result.x is None and seconds is None:
            raise UserError(f"the bound could not be computed: {result.message}")
        return result

    def _integrality(self) -> NDArray[np.float64]:
        whole = np.zeros(len(self.cost))
        if self.integral:
            whole[: self.problem.n_candidates] = 1
            whole[list(self.columns.values())] = 1
        return whole

    def add_violated(self, x: NDArray[np.float64], most: int = 400) -> bool:
        """Add the rows that a fractional solution violates; whether there were any."""
        share = x[: self.problem.n_candidates]
        added = self._violated_cliques(x, share)
        chosen = np.flatnonzero(share > _EPSILON)
        both = share[chosen][:, None] + share[chosen][None] - 1
        due = np.triu(both * (self.penalty[np.ix_(chosen, chosen)] > 0), 1)
        places = np.argwhere(due > 1e-4)
        worst = places[np.argsort(-due[tuple(places.T)], kind="stable")][:most]
        for a, b in worst:
            i, j = int(chosen[a]), int(chosen[b])
            if self._paid(x, i, j) < due[a, b] - 1e-4:
                self.pair_row(i, j)
                added = True
        return added

    def _violated_cliques(self, x: NDArray[np.float64], share: NDArray[np.float64]) -> bool:
        """Cliques of similar features that share more than one choice; grown from every fractional feature."""
        added, seen = False, set()
        chosen = np.flatnonzero(share > 0.01)
        for first in chosen[np.argsort(-share[chosen], kind="stable")]:
            members = [int(first)]
            joined = self.penalty[first].copy()
            while len(members) < 12:
                candidates = chosen[(joined[chosen] > 0)]
                candidates = candidates[~np.isin(candidates, members)]
                if not len(candidates):
                    break
                best = int(candidates[np.argmax(share[candidates] * joined[candidates])])
                members.append(best)
                joined = np.where(joined > 0, np.minimum(joined, self.penalty[best]), 0.0)
            members.sort()
            total = float(share[members].sum())
            count = int(total)
            if len(members) < 3 or count < 1 or tuple(members) in seen:
                continue
            seen.add(tuple(members))
            paid = sum(self._paid(x, i, j) for i, j in combinations(members, 2))
            if paid < count * total - count * (count + 1) / 2 - 1e-4:
                self.clique_row(members, count)
                added = True
        return added

    def _paid(self, x: NDArray[np.float64], i: int, j: int) -> float:
        """The pair's variable in a solution; 0 where the solution is older than the variable."""
        column = self.pairs.get((min(i, j), max(i, j)), len(x))
        return float(x[column]) if column < len(x) else 0.0

    def solution(self, x: NDArray[np.float64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Set `(n,)` and assignment `(C, n)` of an integral solution."""
        selection = torch.from_numpy(np.flatnonzero(x[: self.problem.n_candidates] > 0.5))
        place = {int(i): p for p, i in enumerate(selection)}
        assignment = torch.zeros(self.problem.n_classes, len(selection), dtype=torch.bool)
        for (c, i), column in self.columns.items():
            if x[column] > 0.5:
                assignment[c, place[i]] = True
        return selection, assignment
