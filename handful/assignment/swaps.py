"""Every exchange of one chosen feature for another, valued exactly in a few matrix operations."""

from __future__ import annotations

import torch
from torch import Tensor

from handful.assignment.problem import AssignmentProblem


class SwapTable:
    """A set of features and the exact change of the objective by every exchange of one of them.

    Args:
        problem: the instance, on any device.
        selection: (n,) the set to start from.
        dtype: the precision in which changes are computed.
    """

    def __init__(
        self, problem: AssignmentProblem, selection: Tensor, dtype: torch.dtype = torch.float64
    ) -> None:
        self.problem = problem
        self.gain, self.penalty, self.bias = (x.to(dtype) for x in (problem.gain, problem.penalty, problem.bias))
        self.selection = selection.sort().values
        self.inside = torch.zeros(problem.n_candidates, dtype=torch.bool, device=problem.gain.device)
        self.inside[self.selection] = True
        self.pull = self.penalty[self.selection].sum(dim=0)

    def changes(self) -> Tensor:
        """Change of `set_value` if position p leaves and feature j enters, `(n, F)`; −inf where j is inside."""
        problem, chosen = self.problem, self.selection
        gain, k, n = self.gain, problem.features_per_class, len(self.selection)
        own = gain[:, chosen]
        values, places = own.topk(min(k + 1, n), dim=1)
        last = values[:, k - 1 : k]
        above = (gain - last).clamp_(min=0)
        if n > k:
            after = values[:, k : k + 1]
            extra = (gain - after).clamp_(min=0).sub_(above)
            lost = own - after
        else:  # every feature serves every class: the newcomer replaces the leaver in all of them
            extra = gain - above
            lost = own
        uses = torch.zeros_like(own).scatter_(1, places[:, :k], 1.0)
        change = uses.T @ extra
        change += above.sum(dim=0) + self.bias - self.pull
        change += (self.pull[chosen] - self.bias[chosen] - (uses * lost).sum(dim=0))[:, None]
        change += self.penalty[chosen]
        change[:, self.inside] = -torch.inf
        return change

    def swap(self, position: int, feature: int) -> int:
        """Exchange the feature at a position; returns the one that left."""
        old = int(self.selection[position])
        self.inside[old], self.inside[feature] = False, True
        self.pull += self.penalty[feature] - self.penalty[old]
        self.selection[position] = feature
        return old


def greedy(problem: AssignmentProblem) -> Tensor:
    """A first set `(n,)`: add the feature with the largest increase, n times; ties go to the lower index."""
    gain, k = problem.gain, problem.features_per_class
    best = gain.new_full((problem.n_classes, k), float(gain.min()) - 1)  # the k largest gains so far, unordered
    pull = torch.zeros_like(problem.bias)
    taken = torch.zeros_like(pull, dtype=torch.bool)
    for _ in range(problem.n_features):
        lowest, place = best.min(dim=1)
        score = (gain - lowest[:, None]).clamp_(min=0).sum(dim=0) + problem.bias - pull
        feature = int(score.masked_fill(taken, -torch.inf).argmax())
        rows = (gain[:, feature] > lowest).nonzero()[:, 0]
        best[rows, place[rows]] = gain[rows, feature]
        taken[feature] = True
        pull += problem.penalty[:, feature]
    return taken.nonzero()[:, 0]
