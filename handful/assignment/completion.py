"""For a given set of features: exactly k for every class, no two classes alike, every feature used."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import coo_matrix
from torch import Tensor

from handful.assignment.problem import AssignmentProblem
from handful.assignment.subsets import best_subset_with, best_subsets
from handful.errors import UserError

#: Subsets that are listed per class before the completion is given up as unproven.
MAX_DEPTH = 4096

_Subset = tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """A full solution for a set.

    Attributes:
        assignment: (C, n) Booleans in the set's order.
        value: the objective.
        lost: how much the constraints "no two classes alike, every feature used" cost against the k best features
            of every class.
        proven: whether no other assignment for this set is better.
    """

    assignment: Tensor
    value: float
    lost: float
    proven: bool


def complete(problem: AssignmentProblem, selection: Tensor) -> Completion:
    """The best assignment `(C, n)` for a set `(n,)`.

    Every class chooses among its best subsets; a set-partitioning program makes the choices differ and cover all
    features. A solution that uses a subset beyond a class's list loses at least as much as the list's last subset
    does; the lists are lengthened until the loss found is below that, which proves it.

    Raises:
        UserError: these features cannot keep all classes apart.
    """
    gain = problem.gain[:, selection].cpu()
    k, terms = problem.features_per_class, float(problem.set_terms(selection))
    top = gain.topk(k, dim=1)
    free = torch.zeros(gain.shape, dtype=torch.bool).scatter_(1, top.indices, True)
    best = float(top.values.sum())
    if len(free.unique(dim=0)) == len(free) and free.any(dim=0).all():
        return Completion(free.to(problem.gain.device), best + terms, 0.0, True)
    rows = gain.tolist()
    uncovered = (~free.any(dim=0)).nonzero()[:, 0].tolist()
    depth = 4
    while True:
        lists = [list(islice(best_subsets(row, k), depth)) for row in rows]
        # below what nothing outside the lists can stay; infinite where a list holds every subset
        reach = min(
            (found[0][0] - found[-1][0] for found in lists if len(found) == depth), default=float("inf")
        )
        columns = [dict.fromkeys(subset for _, subset in found) for found in lists]
        for c, row in enumerate(rows):
            columns[c] |= dict.fromkeys(best_subset_with(row, k, i)[1] for i in uncovered)
        chosen = _partition(gain.numpy(), columns)
        if chosen is not None:
            assignment = torch.zeros_like(free)
            for c, subset in enumerate(chosen):
                assignment[c, list(subset)] = True
            lost = best - float((gain * assignment).sum())
            if lost <= reach + 1e-9 or depth >= MAX_DEPTH:
                proven = lost <= reach + 1e-9
                return Completion(assignment.to(problem.gain.device), best - lost + terms, lost, proven)
        elif reach == float("inf") or depth >= MAX_DEPTH:
            raise UserError("the chosen features cannot keep all classes apart; take more features")
        else:
            uncovered = list(range(gain.shape[1]))
        depth *= 4


def _partition(gain: np.ndarray, columns: list[dict[_Subset, None]]) -> list[_Subset] | None:
    """One subset for every class, all different, covering all features, with the largest sum; None if impossible."""
    pairs = [(c, subset) for c, subsets in enumerate(columns) for subset in subsets]
    names = {subset: i for i, subset in enumerate(dict.fromkeys(subset for _, subset in pairs))}
    n_classes, n_features = gain.shape
    entries: list[tuple[int, int]] = []
    for column, (c, subset) in enumerate(pairs):
        entries.append((c, column))
        entries += [(n_classes + i, column) for i in subset]
        entries.append((n_classes + n_features + names[subset], column))
    row, column_of = np.array(entries).T
    matrix = coo_matrix((np.ones(len(entries)), (row, column_of)))
    low = np.r_[np.ones(n_classes + n_features), np.full(len(names), -np.inf)]
    high = np.r_[np.ones(n_classes), np.full(n_features, np.inf), np.ones(len(names))]
    cost = -np.array([gain[c, list(subset)].sum() for c, subset in pairs])
    result = milp(
        cost,
        constraints=LinearConstraint(matrix.tocsr(), low, high),
        integrality=np.ones(len(pairs)),
        bounds=(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    if result.x is None:
        return None
    return [pairs[i][1] for i in sorted(np.flatnonzero(result.x > 0.5), key=lambda i: pairs[i][0])]
