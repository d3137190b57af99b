"""The duality gap: a bound on how far an objective can still fall, from one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from handful.sparse.oracle import Evaluation, Oracle
from handful.sparse.penalty import Penalty


class DualityGap:
    """Bounds F(W) − min F for the weights of a path, from the aggregates (C, F+1) of a pass and no N × C object.

    The dual point is a row-stochastic matrix Q near the softmax P. The free bias asks that its columns have the class
    shares as mean, which Q = (1 − t) P + t 1 q' meets; without ridge (α = 1) the gradient must also lie within the
    threshold, which Q ← Y + s (Q − Y) meets, Y the one-hot labels. The entropy of a mixture is at least the mixture
    of the entropies, so the dual value below is a lower bound of the primal minimum (Fenchel–Young).

    Args:
        oracle: the loss; two passes are spent on the feature means.
    """

    def __init__(self, oracle: Oracle) -> None:
        self.shares = oracle.class_shares
        base = oracle.bias_only()
        sure = torch.zeros_like(base)
        sure[0, -1] = 60.0  # softmax of 60 against zeros: the first class, to within rounding
        at_shares, at_first = oracle(base).gradient[:, :-1], oracle(sure).gradient[:, :-1]
        # both gradients are  p z̄' − Y'Z / N  with p the constant prediction
        apart = self.shares.clone()
        apart[0] -= 1.0
        self.means = apart @ (at_shares - at_first) / (apart @ apart)
        self.label_means = self.shares[:, None] * self.means - at_shares

    def __call__(self, weight: Tensor, evaluation: Evaluation, penalty: Penalty) -> float:
        """The gap at `weight` (C, F+1) in nats; infinite where no dual point is known (α = 0 and λ = 0).

        Args:
            weight: the primal point.
            evaluation: of the loss at the weights.
            penalty: the penalty, with λ > 0.
        """
        w, bias = weight[:, :-1], weight[:, -1]
        gradient, bias_gradient = evaluation.gradient[:, :-1], evaluation.gradient[:, -1]
        predicted = bias_gradient + self.shares
        products = gradient + self.label_means
        partition = evaluation.loss + (self.label_means * w).sum() + (self.shares * bias).sum()
        entropy = partition - (products * w).sum() - (predicted * bias).sum()
        excess = (predicted - self.shares) / predicted.clamp(min=1e-300)
        t = excess.clamp(min=0).max() * (1 + 1e-9) + 1e-15
        q = ((self.shares - (1 - t) * predicted) / t).clamp(min=0)
        feasible = gradient - t * (products - q[:, None] * self.means)
        dual = (1 - t) * entropy - t * torch.special.xlogy(q, q).sum()
        if penalty.ridge > 0:
            dual -= penalty.dual_excess(feasible).square().sum() / (2 * penalty.ridge)
        else:
            above = penalty.dual_excess(feasible).max() + penalty.threshold
            dual *= min(1.0, penalty.threshold / above.item())
        return float(evaluation.loss + penalty.value(weight) - dual)
