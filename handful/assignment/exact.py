"""The optimum of a small instance: an integer program whose rows that part classes are added as they are violated."""

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

from handful.assignment.problem import Assignment, AssignmentProblem
from handful.errors import UserError

#: What HiGHS says of a program without a solution.
_INFEASIBLE = 2


class NotSolvedError(UserError):
    """Branch and bound has ended before the optimum was proven."""


def solve_exactly(problem: AssignmentProblem, *, seconds: float = 600.0, nodes: int | None = None) -> Assignment:
    """The optimum of a small instance (some forty features, eight classes), by branch and bound (HiGHS).

    Args:
        problem: the instance.
        seconds: after which it ends.
        nodes: of branch and bound after which it ends, whatever the machine; as many as it takes where None.

    Raises:
        NotSolvedError: not solved within the time or the nodes, or no assignment holds so many pairs of classes.

    Example:
        >>> gain = torch.tensor([[3.0, 2.0, 0.0, 1.0], [0.0, 2.0, 3.0, 1.0]])
        >>> problem = AssignmentProblem(gain, torch.zeros(4, 4), torch.zeros(4), n_features=3, features_per_class=2)
        >>> solve_exactly(problem).selection.tolist()
        [0, 1, 2]
    """
    program = _Program(problem)
    for i, j in problem.penalty.triu().nonzero().tolist():
        program.pair_row(i, j)
    if problem.pairs and problem.features_per_class > 1:  # of one feature each, all share none
        program.sharing_rows()
    began, taken = time.perf_counter(), 0
    while True:
        left = seconds - (time.perf_counter() - began)
        result = program.solve(max(left, 0.1), None if nodes is None else max(nodes - taken, 1))
        taken += int(result.mip_node_count or 0)
        if result.status == _INFEASIBLE:
            raise NotSolvedError(f"pairs: no assignment holds {problem.pairs}")
        if result.status != 0:
            limit = f"{seconds:g} seconds" if nodes is None else f"{seconds:g} seconds and {nodes:,} nodes"
            raise NotSolvedError(f"not solved exactly within {limit}; use the local search")
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
    """Variables: s (F), then E by classes and falling gains, then pairs of features."""

    def __init__(self, problem: AssignmentProblem) -> None:
        self.problem = problem
        gain = problem.gain.cpu()
        n_candidates, k = problem.n_candidates, problem.features_per_class
        self.cost: list[float] = (-problem.bias.cpu()).tolist()
        self.rows = _Rows()
        self.columns: dict[tuple[int, int], int] = {}
        self.whole: list[int] = []  # further columns of whole numbers
        self.rows.add([(i, 1.0) for i in range(n_candidates)], problem.n_features, problem.n_features)
        used: list[list[int]] = [[] for _ in range(n_candidates)]
        for c, order in enumerate(gain.argsort(dim=1, descending=True, stable=True).tolist()):
            row = []
            for i in order:
                column = self._variable(-float(gain[c, i]))
                self.columns[c, i] = column
                self.rows.add([(column, 1.0), (i, -1.0)], -np.inf, 0.0)
                row.append(column)
                used[i].append(column)
            self.rows.add([(column, 1.0) for column in row], k, k)
        for i, columns in enumerate(used):
            self.rows.add([*((column, 1.0) for column in columns), (i, -1.0)], 0.0, np.inf)

    def _variable(self, cost: float) -> int:
        self.cost.append(cost)
        return len(self.cost) - 1

    def pair_row(self, i: int, j: int) -> None:
        """Both chosen: the penalty is due."""
        both = self._variable(float(self.problem.penalty[i, j]))
        self.rows.add([(both, 1.0), (i, -1.0), (j, -1.0)], -1.0, np.inf)

    def sharing_rows(self) -> None:
        """So many pairs of classes share all features but one."""
        sharing = []
        for c, d in combinations(range(self.problem.n_classes), 2):
            sharing.append(self._variable(0.0))
            common = []
            for i in range(self.problem.n_candidates):
                common.append(self._variable(0.0))
                for one in (c, d):
                    self.rows.add([(common[-1], 1.0), (self.columns[one, i], -1.0)], -np.inf, 0.0)
            least = float(1 - self.problem.features_per_class)
            self.rows.add([*((column, 1.0) for column in common), (sharing[-1], least)], 0.0, np.inf)
        self.rows.add([(column, 1.0) for column in sharing], self.problem.pairs, np.inf)
        self.whole += sharing

    def differ(self, classes: list[int], features: list[int]) -> None:
        """No two of the classes may have exactly these features."""
        for one, other in combinations(range(self.problem.n_classes), 2):
            if one in classes or other in classes:
                row = [(self.columns[c, i], 1.0) for c in (one, other) for i in features]
                self.rows.add(row, -np.inf, 2 * self.problem.features_per_class - 1)

    def solve(self, seconds: float, nodes: int | None) -> OptimizeResult:
        """Solve what has been collected."""
        whole = np.zeros(len(self.cost))
        whole[: self.problem.n_candidates] = 1
        whole[[*self.columns.values(), *self.whole]] = 1
        return milp(
            np.array(self.cost),
            constraints=self.rows.constraint(len(self.cost)),
            bounds=Bounds(0.0, 1.0),
            integrality=whole,
            options={"mip_rel_gap": 0.0, "time_limit": seconds} | ({} if nodes is None else {"node_limit": nodes}),
        )

    def solution(self, x: NDArray[np.float64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Set `(n,)` and assignment `(C, n)` of an integral solution."""
        selection = torch.from_numpy(np.flatnonzero(x[: self.problem.n_candidates] > 0.5))
        place = {int(i): p for p, i in enumerate(selection)}
        assignment = torch.zeros(self.problem.n_classes, len(selection), dtype=torch.bool)
        for (c, i), column in self.columns.items():
            if x[column] > 0.5:
                assignment[c, place[i]] = True
        return selection, assignment
