"""For a given set of features: exactly k for every class, no two classes alike, every feature used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, linprog, milp
from scipy.sparse import coo_matrix, csr_matrix
from torch import Tensor

from handful.assignment.pairs import sharing_pairs, with_pairs
from handful.assignment.problem import AssignmentProblem
from handful.assignment.subsets import Subset, best_subset_with, best_subsets
from handful.errors import UserError

#: Subsets that are listed per class before the completion is given up as unproven.
MAX_DEPTH = 256

#: A loss is not told from a price closer than this.
_ROUNDING = 1e-9

#: The same where every feature has to be used.
_COVERING_DEPTH = 128

#: Nodes of branch and bound for a set of which some feature is in no class's best subset.
_NODES = 200


@dataclass(frozen=True)
class Completion:
    """A full solution for a set.

    Attributes:
        assignment: (C, n) Booleans in the set's order.
        value: the objective.
        lost: how much the constraints "no two classes alike, every feature used", and the pairs, cost against the k
            best features of every class.
        proven: whether no other assignment for this set is better.
    """

    assignment: Tensor
    value: float
    lost: float
    proven: bool


def complete(problem: AssignmentProblem, selection: Tensor) -> Completion:
    """The best assignment `(C, n)` for a set `(n,)`.

    Classes whose k best features are those of another class choose among their subsets by a minimum-weight matching; a
    class whose subset is taken away joins them. Where a feature is left that no class uses, a set-partitioning program
    over all classes takes the matching's place. Lists of subsets reach down to a loss, and are lengthened until nothing
    beyond them can be part of a better choice. Pairs that have to share all features but one
    come last (`with_pairs`), unproven.

    Raises:
        UserError: these features cannot keep all classes apart.
    """
    gain = problem.gain[:, selection].cpu()
    lists = _Lists(gain, problem.features_per_class)
    chosen, proven = _parted(lists)
    if chosen is not None and len({i for subset in chosen for i in subset}) < gain.shape[1]:
        chosen, proven = _covering(lists, gain.numpy())
    if chosen is None:
        raise UserError("the chosen features cannot keep all classes apart; take more features")
    assignment = torch.zeros(gain.shape, dtype=torch.bool)
    for c, subset in enumerate(chosen):
        assignment[c, list(subset)] = True
    if sharing_pairs(assignment) < problem.pairs:
        assignment, proven = with_pairs(gain, assignment, problem.pairs), False
    held = float((gain * assignment).sum())
    lost = max(0.0, sum(lists.most) - held)
    value = held + float(problem.set_terms(selection))
    return Completion(assignment.to(problem.gain.device), value, lost, proven)


class _Lists:
    """Every class's subsets in the order of what they lose against its best one; listed as far as they are needed."""

    def __init__(self, gain: Tensor, size: int) -> None:
        self.rows, self.size = gain.tolist(), size
        self.best: list[Subset] = [tuple(row) for row in gain.topk(size, dim=1).indices.sort(dim=1).values.tolist()]
        #: What a class has of it.
        self.most: list[float] = gain.topk(size, dim=1).values.sum(dim=1).tolist()
        self._listed: dict[int, tuple[float, dict[Subset, float]]] = {}
        #: What classes lose, on the mean, by giving their last feature up for the next: a reach to start from.
        self.step = 1e-6 * float(gain.abs().max()) + 1e-12
        if gain.shape[1] > size:
            ordered = gain.topk(size + 1, dim=1).values
            self.step += float((ordered[:, size - 1] - ordered[:, size]).mean())

    def loss(self, c: int, subset: Subset) -> float:
        """What a class loses by a subset."""
        return float(self.most[c]) - sum(self.rows[c][i] for i in subset)

    def within(self, c: int, reach: float, most: int = MAX_DEPTH) -> tuple[dict[Subset, float], float]:
        """A class's subsets that lose at most `reach`, at most so many, and up to which loss they are all there is."""
        known = self._listed.get(c)
        if known is None or (known[0] < reach and len(known[1]) < most):
            known = _listed(self.rows[c], self.size, reach, most)
            self._listed[c] = known
        return known[1], known[0]


def _listed(row: list[float], size: int, reach: float, most: int) -> tuple[float, dict[Subset, float]]:
    found: dict[Subset, float] = {}
    first = None
    for total, subset in best_subsets(row, size):
        first = total if first is None else first
        if len(found) == most:
            return first - total, found
        if first - total > reach and found:
            return reach, found
        found[subset] = first - total
    return float("inf"), found


def _parted(lists: _Lists) -> tuple[list[Subset] | None, bool]:
    """The cheapest choice of subsets that are all different, and whether it is proven; None if impossible."""
    owner: dict[Subset, int] = {}
    taking: set[int] = set()  # classes that cannot all have their best subset
    for c, subset in enumerate(lists.best):
        if subset in owner:
            taking |= {c, owner[subset]}
        else:
            owner[subset] = c
    chosen = list(lists.best)
    reach = dict.fromkeys(range(len(chosen)), 2 * lists.step)
    while taking:
        classes = sorted(taking)
        found = [lists.within(c, reach[c]) for c in classes]
        matched, prices = _matching([subsets for subsets, _ in found])
        rows = list(zip(classes, [known for _, known in found], prices, strict=True))
        # a list that ends before its reach has no more, or would be too long
        short = {c: price for c, known, price in rows if reach[c] <= known < price - _ROUNDING}
        if short:
            reach |= {c: 4 * reach[c] if matched is None else price for c, price in short.items()}
            continue
        proven = all(known >= price - _ROUNDING for _, known, price in rows)
        if matched is None:
            return None, proven
        taken = {owner[subset] for subset in matched if subset in owner} - taking
        if not taken:
            for c, subset in zip(classes, matched, strict=True):
                chosen[c] = subset
            return chosen, proven
        taking |= taken
    return chosen, True


def _matching(lists: list[dict[Subset, float]]) -> tuple[list[Subset] | None, list[float]]:
    """One subset for every class, all different, with the least loss, and a price per class; None if impossible.

    The prices are the classes' dual values: a subset that is not listed and loses its class more than the price cannot
    be part of a better choice. They are infinite where there is no choice.
    """
    names = {subset: i for i, subset in enumerate(dict.fromkeys(s for found in lists for s in found))}
    column = np.array([names[s] for found in lists for s in found])
    row = np.repeat(np.arange(len(lists)), [len(found) for found in lists])
    ones, place = np.ones(len(column)), np.arange(len(column))
    result = linprog(
        np.array([loss for found in lists for loss in found.values()]),
        A_eq=csr_matrix((ones, (row, place)), shape=(len(lists), len(column))),
        b_eq=np.ones(len(lists)),
        A_ub=csr_matrix((ones, (column, place)), shape=(len(names), len(column))),
        b_ub=np.ones(len(names)),
        method="highs-ds",  # a vertex, which is integral
    )
    if result.status != 0:
        return None, [float("inf")] * len(lists)
    subsets = list(names)
    matched: list[Subset] = [()] * len(lists)
    for at in np.flatnonzero(result.x > 0.5):
        matched[row[at]] = subsets[column[at]]
    return matched, result.eqlin.marginals.tolist()


def _covering(lists: _Lists, gain: NDArray[np.float64]) -> tuple[list[Subset] | None, bool]:
    """The same so that all features are used, by branch and bound over short lists."""
    n_classes, n_features = gain.shape
    reach = 2 * lists.step
    while True:
        found = [lists.within(c, reach, _COVERING_DEPTH) for c in range(n_classes)]
        complete_to = min(known for _, known in found)
        columns = [dict.fromkeys(subsets) for subsets, _ in found]
        for c, row in enumerate(lists.rows):
            columns[c] |= dict.fromkeys(best_subset_with(row, lists.size, i)[1] for i in range(n_features))
        chosen = _partition(columns, gain)
        lost = float("inf") if chosen is None else sum(lists.loss(c, subset) for c, subset in enumerate(chosen))
        if lost <= complete_to + 1e-9 or complete_to < reach:
            return chosen, lost <= complete_to + 1e-9
        reach = 4 * reach if chosen is None else lost


def _partition(columns: list[dict[Subset, None]], gain: NDArray[np.float64]) -> list[Subset] | None:
    """One subset for every class, all different, covering all features, with the largest sum; None if none is found."""
    n_classes, n_features = gain.shape
    pairs = [(c, subset) for c, subsets in enumerate(columns) for subset in subsets]
    names = {subset: i for i, subset in enumerate(dict.fromkeys(subset for _, subset in pairs))}
    entries: list[tuple[int, int]] = []
    for column, (c, subset) in enumerate(pairs):
        entries.append((c, column))
        entries += [(n_classes + i, column) for i in subset]
        entries.append((n_classes + n_features + names[subset], column))
    row, column_of = np.array(entries).T
    matrix = coo_matrix((np.ones(len(entries)), (row, column_of)))
    low = np.r_[np.ones(n_classes + n_features), np.full(len(names), -np.inf)]
    high = np.r_[np.ones(n_classes), np.full(n_features, np.inf), np.ones(len(names))]
    result = milp(
        -np.array([gain[c, list(subset)].sum() for c, subset in pairs]),
        constraints=LinearConstraint(matrix.tocsr(), low, high),
        integrality=np.ones(len(pairs)),
        bounds=(0, 1),
        options={"mip_rel_gap": 0.0, "node_limit": _NODES},
    )
    if result.x is None:
        return None
    return [pairs[i][1] for i in sorted(np.flatnonzero(result.x > 0.5), key=lambda i: pairs[i][0])]
