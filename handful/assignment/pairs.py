"""Pairs of classes that differ in one feature only: they are compared by it."""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor

from handful.assignment.subsets import best_subsets

#: Best subsets of a class that it may change to.
_BEST = 24

#: Classes, the cheapest to share with, next to whose subset it may change.
_NEIGHBOURS = 48


def sharing_pairs(assignment: Tensor) -> int:
    """How many pairs of classes share all features but one: `(C, n)` Booleans, the same number in every row.

    Example:
        >>> sharing_pairs(torch.tensor([[True, True, False], [False, True, True], [True, False, True]]))
        3
    """
    rows = assignment.float()
    overlap = rows @ rows.T
    return int((overlap == overlap.diagonal()[:, None] - 1).triu(1).sum())


def with_pairs(gain: Tensor, assignment: Tensor, pairs: int) -> Tensor:
    """Change classes, one at a time, until `pairs` pairs share all features but one; then take back what cost most.

    Every class may change to one of its best subsets, or to its best subset beside another class's. First the change
    that costs least per pair gained is made, again and again; then changes that gain without losing a pair that is
    needed. Classes stay different, and no feature loses its last class.

    Args:
        gain: (C, n) of the set's features.
        assignment: (C, n) Booleans, all rows different.
        pairs: wanted.

    Returns:
        The assignment; with as many pairs as were reached where `pairs` cannot be.
    """
    state = _Changes(gain.cpu().double(), assignment.cpu())
    while state.pairs < pairs:
        change, more = state.costs(), state.pairs_gained()
        price = torch.where(more > 0, change.clamp(min=0) / more.clamp(min=1), torch.inf)
        if not state.apply(price):
            break
    least = min(pairs, state.pairs)
    while True:
        change = state.costs()
        kept = state.pairs + state.pairs_gained() >= least
        if not state.apply(torch.where(kept & (change < -1e-12), change, torch.inf)):
            return state.rows.bool().to(assignment.device)


class _Changes:
    """An assignment, and for every class the subsets it may change to."""

    def __init__(self, gain: Tensor, assignment: Tensor) -> None:
        self.gain, self.rows = gain, assignment.float()
        self.size = int(assignment[0].sum())
        n_classes = len(gain)
        best = torch.zeros(n_classes, _BEST, gain.shape[1])
        for c, row in enumerate(gain.tolist()):
            for place, (_, subset) in enumerate(islice(best_subsets(row, self.size), _BEST)):
                best[c, place, list(subset)] = 1.0
        worth = torch.stack([(self._beside(d).double() * gain).sum(dim=1) for d in range(n_classes)], dim=1)
        worth.fill_diagonal_(-torch.inf)
        count = min(_NEIGHBOURS, n_classes - 1)
        self.neighbours = worth.argsort(dim=1, descending=True, stable=True)[:, :count]
        near = torch.zeros(n_classes, count, gain.shape[1])
        for d in range(n_classes):
            classes, places = (self.neighbours == d).nonzero(as_tuple=True)
            near[classes, places] = self._beside(d)[classes]
        self.subsets = torch.cat([best, near], dim=1)  # (C, M, n); rows of zeros where there are fewer subsets
        self.value = (self.subsets.double() * gain[:, None]).sum(dim=2)
        self.shared = torch.zeros(self.subsets.shape[:2])  # classes with which a subset shares all features but one
        self.equal = torch.zeros(self.subsets.shape[:2])  # classes that have the subset already
        for d in range(n_classes):
            self._count(d, 1)

    @property
    def pairs(self) -> int:
        return sharing_pairs(self.rows)

    def _beside(self, d: int) -> Tensor:
        """Every class's best subset `(C, n)` that shares all features but one with class d's."""
        own = self.rows[d].bool()
        found = self.rows[d].repeat(len(self.gain), 1)
        leaves = self.gain.masked_fill(~own, torch.inf).argmin(dim=1, keepdim=True)
        enters = self.gain.masked_fill(own, -torch.inf).argmax(dim=1, keepdim=True)
        return found.scatter_(1, leaves, 0.0).scatter_(1, enters, 1.0)

    def _count(self, d: int, sign: int) -> None:
        """Count class d in or out; a class is not counted for itself."""
        overlap = self.subsets @ self.rows[d]
        overlap[d] = -1.0
        self.shared += sign * (overlap == self.size - 1)
        self.equal += sign * (overlap == self.size)

    def costs(self) -> Tensor:
        """What changing to each subset `(C, M)` loses; infinite where it may not be."""
        now = (self.rows.double() * self.gain).sum(dim=1, keepdim=True)
        lone = self.rows * (self.rows.sum(dim=0) == 1)  # features that only this class uses
        leaves = ((1 - self.subsets) * lone[:, None]).sum(dim=2) > 0
        forbidden = (self.equal > 0) | leaves | (self.subsets.sum(dim=2) != self.size)
        return (now - self.value).masked_fill(forbidden, torch.inf)

    def pairs_gained(self) -> Tensor:
        """By changing to each subset, `(C, M)`."""
        overlap = self.rows @ self.rows.T
        own = (overlap == self.size - 1).sum(dim=1, keepdim=True)
        return self.shared - own

    def apply(self, price: Tensor) -> bool:
        """Make the change of the lowest price `(C, M)`; False where there is none."""
        place = int(price.argmin())
        c, m = divmod(place, price.shape[1])
        if not price[c, m] < torch.inf:
            return False
        self._count(c, -1)
        self.rows[c] = self.subsets[c, m]
        self._count(c, 1)
        # the subsets beside this class's old one are now beside its new one
        found = self._beside(c)
        where = torch.zeros(self.subsets.shape[:2], dtype=torch.bool)
        where[:, self.subsets.shape[1] - self.neighbours.shape[1] :] = self.neighbours == c
        classes, columns = where.nonzero(as_tuple=True)
        self.subsets[classes, columns] = found[classes]
        self.value[classes, columns] = (found.double() * self.gain).sum(dim=1)[classes]
        overlap = torch.einsum("pn,dn->pd", found[classes], self.rows)
        overlap[torch.arange(len(classes)), classes] = -1.0
        self.shared[classes, columns] = (overlap == self.size - 1).float().sum(dim=1)
        self.equal[classes, columns] = (overlap == self.size).float().sum(dim=1)
        return True
