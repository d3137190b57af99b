"""The choice of a few features and of exactly k of them for every class, as an optimisation problem."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from handful.assignment.pairs import sharing_pairs
from handful.conversions import as_tensor, check_whole
from handful.errors import UserError


@dataclass(frozen=True)
class AssignmentProblem:
    """One instance of the QPM problem.

    Choose n of F features and k of them for each of C classes::

        maximise   Σ_c Σ_i gain[c, i] E[c, i]  −  Σ_{i<j} penalty[i, j] s_i s_j  +  Σ_i bias[i] s_i
        subject to Σ_i s_i = n,  E[c, i] ≤ s_i,  Σ_i E[c, i] = k,  no two rows of E equal,  every chosen feature used

    Args:
        gain: (C, F) gain of each class from each feature; already scaled.
        penalty: (F, F) non-negative, symmetric, zero diagonal: the cost of choosing both features of a pair.
        bias: (F,) what choosing a feature gains or costs by itself.
        n_features: n, in [k, F].
        features_per_class: k, at least 1.
        pairs: how many pairs of classes have to share all features but one. Kept as far as it can be: the assignment
            says how many pairs it holds.

    Raises:
        UserError: shapes that do not belong together, values that are not finite, sizes out of range, or fewer sets
            of k out of n features than classes.

    Source: QPM (ICLR 2025), equations of its quadratic program.

    Example:
        >>> gain = torch.tensor([[3.0, 2.0, 0.0, 1.0], [0.0, 2.0, 3.0, 1.0]])
        >>> problem = AssignmentProblem(gain, torch.zeros(4, 4), torch.zeros(4), n_features=3, features_per_class=2)
        >>> problem.value(torch.tensor([0, 1, 2]), torch.tensor([[True, True, False], [False, True, True]]))
        10.0
    """

    gain: Tensor
    penalty: Tensor
    bias: Tensor
    n_features: int
    features_per_class: int
    pairs: int = 0

    def __post_init__(self) -> None:
        """Convert to float64 and refuse what is not an instance."""
        for name in ("gain", "penalty", "bias"):
            value = as_tensor(getattr(self, name), name).detach().to(torch.float64)
            if not value.isfinite().all():
                raise UserError(f"{name}: holds values that are not finite")
            object.__setattr__(self, name, value)
        if self.gain.ndim != 2 or 0 in self.gain.shape:
            raise UserError(f"gain: shape (classes, features), not {tuple(self.gain.shape)}")
        count = self.gain.shape[1]
        if self.penalty.shape != (count, count) or self.bias.shape != (count,):
            raise UserError(
                f"gain {tuple(self.gain.shape)}, penalty {tuple(self.penalty.shape)} and bias "
                f"{tuple(self.bias.shape)} do not belong together"
            )
        if (self.penalty < 0).any() or self.penalty.diagonal().any() or not self.penalty.equal(self.penalty.T):
            raise UserError("penalty: non-negative, symmetric and with a zero diagonal")
        check_sizes(self.n_classes, count, self.n_features, self.features_per_class)
        check_whole("pairs", self.pairs, 0)
        most = self.n_classes * (self.n_classes - 1) // 2
        if not 0 <= self.pairs <= most:
            raise UserError(f"pairs: {self.n_classes} classes make 0 to {most} pairs, not {self.pairs}")

    @property
    def n_classes(self) -> int:
        """C."""
        return self.gain.shape[0]

    @property
    def n_candidates(self) -> int:
        """F, the number of features to choose from."""
        return self.gain.shape[1]

    def reordered(self, order: Tensor) -> AssignmentProblem:
        """The same with its features in the order `(F,)`, without those that it leaves out."""
        return AssignmentProblem(
            self.gain[:, order],
            self.penalty[order][:, order],
            self.bias[order],
            self.n_features,
            self.features_per_class,
            self.pairs,
        )

    def set_value(self, selection: Tensor) -> float:
        """The best objective with this set `(n,)` if equal classes and unused features were allowed."""
        top = self.gain[:, selection].topk(self.features_per_class, dim=1).values
        return float(top.sum() + self.set_terms(selection))

    def set_terms(self, selection: Tensor) -> Tensor:
        """The part of the objective that depends on the set `(n,)` alone: bias minus penalties."""
        return self.bias[selection].sum() - self.penalty[selection[:, None], selection].sum() / 2

    def value(self, selection: Tensor, assignment: Tensor) -> float:
        """The objective of a solution: a set `(n,)` and an assignment `(C, n)` of Booleans in the set's order."""
        return float((self.gain[:, selection] * assignment).sum() + self.set_terms(selection))

    def violations(self, selection: Tensor, assignment: Tensor) -> list[str]:
        """What a solution violates, in words; empty where it is valid."""
        found = []
        if len(selection) != self.n_features or len(selection.unique()) != self.n_features:
            found.append(f"{len(selection.unique())} distinct features instead of {self.n_features}")
        if assignment.shape != (self.n_classes, len(selection)):
            return [*found, f"an assignment of shape {tuple(assignment.shape)}"]
        if (assignment.sum(dim=1) != self.features_per_class).any():
            found.append(f"a class without exactly {self.features_per_class} features")
        if len(assignment.unique(dim=0)) != len(assignment):
            found.append("two classes with the same features")
        if not assignment.any(dim=0).all():
            found.append("a chosen feature that no class uses")
        if sharing_pairs(assignment) < self.pairs:
            found.append(
                f"{sharing_pairs(assignment)} pairs of classes that share all features but one instead of {self.pairs}"
            )
        return found


@dataclass(frozen=True)
class Assignment:
    """A solution of an `AssignmentProblem`.

    Attributes:
        selection: (n,) int64 the chosen features, ascending.
        assignment: (C, n) Booleans: which of them a class uses.
        value: the objective.

    Example:
        >>> gain = torch.tensor([[3.0, 2.0, 0.0, 1.0], [0.0, 2.0, 3.0, 1.0]])
        >>> problem = AssignmentProblem(gain, torch.zeros(4, 4), torch.zeros(4), n_features=3, features_per_class=2)
        >>> from handful.assignment import solve
        >>> solve(problem).assignment.int().tolist()
        [[1, 1, 0], [0, 1, 1]]
    """

    selection: Tensor
    assignment: Tensor
    value: float

    @property
    def pairs(self) -> int:
        """How many pairs of classes share all features but one."""
        return sharing_pairs(self.assignment)

    def reordered(self, order: Tensor) -> Assignment:
        """The solution in the numbers `order` `(F,)` that `AssignmentProblem.reordered` was given."""
        selection, places = order[self.selection].sort()
        return Assignment(selection, self.assignment[:, places], self.value)


def check_sizes(n_classes: int, n_candidates: int, n_features: int, features_per_class: int) -> None:
    """Refuse sizes for which no assignment exists.

    Raises:
        UserError: naming the sizes.

    Example:
        >>> check_sizes(n_classes=4, n_candidates=10, n_features=4, features_per_class=2)
    """
    check_whole("features_per_class", features_per_class, 1)
    check_whole("n_features", n_features, 1)
    if n_features < features_per_class:
        raise UserError(f"n_features: {n_features} is fewer than features_per_class, {features_per_class}")
    if n_features > n_candidates:
        raise UserError(f"n_features: {n_features}, but there are only {n_candidates} features to choose from")
    if n_features > n_classes * features_per_class:
        raise UserError(
            f"n_features: {n_classes} classes with {features_per_class} features each can use at most "
            f"{n_classes * features_per_class} features, not {n_features}"
        )
    sets = 1
    for i in range(features_per_class):
        sets = sets * (n_features - i) // (i + 1)
    if sets < n_classes:
        raise UserError(
            f"{n_features} features allow {sets} different sets of {features_per_class}, fewer than the {n_classes} "
            "classes; raise n_features or features_per_class"
        )
