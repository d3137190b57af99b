"""From a path to a sparse layer: which point to take, and which of its weights to keep."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from handful.errors import UserError
from handful.sparse.minimise import Warmth, minimise
from handful.sparse.oracle import Oracle
from handful.sparse.path import PathPoint
from handful.sparse.penalty import ElasticNet

CUTS = ("average", "per_class", "refit", "ternary")
#: Smaller probabilities and curvatures are taken as this.
_LEAST = 1e-9


def densest_within(points: Sequence[PathPoint], limit: float) -> PathPoint:
    """The first of the densest points with at most `limit` non-zero weights per class.

    The published rule takes `limit` as twice the wanted number. A point without any weight is passed over where
    there is another.

    Raises:
        UserError: where no point is within the limit.
    """
    fitting = [point for point in points if point.density <= limit]
    if not fitting:
        raise UserError(f"features_per_class: every point of the path has more than {limit:g} weights per class")
    best = max(fitting, key=lambda point: point.density)
    if best.density == 0:
        # the very next point overshot: better cut a dense layer than hand over an empty one
        best = min(points, key=lambda point: (point.density == 0, point.density))
    if best.density == 0:
        raise UserError(
            "n_lambdas: no point of the path has a non-zero weight; give more points, or a smaller epsilon"
        )
    return best


def kept(weight: Tensor, features_per_class: int, cut: str) -> Tensor:
    """Mask (C, S) of the weights that stay.

    Args:
        weight: (C, S).
        features_per_class: k.
        cut: "average" (as published), "refit" and "ternary" keep the C·k largest magnitudes of the whole matrix, so
            that classes differ in their number; "per_class" the k largest of every class.

    Raises:
        UserError: for an unknown rule.
    """
    if cut not in CUTS:
        raise UserError(f"cut must be one of {', '.join(CUTS)}, not {cut!r}")
    size = weight.abs()
    if cut == "per_class":
        # a stable sort settles ties by the order of the columns
        rank = size.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return (rank < features_per_class) & (weight != 0)
    rank = size.reshape(-1).argsort(descending=True, stable=True).argsort().reshape(weight.shape)
    return (rank < features_per_class * len(weight)) & (weight != 0)


class SupportOracle(Oracle):
    """An oracle in which only the weights of a mask, and the bias, can move.

    Args:
        inner: the loss.
        mask: (C, S).
    """

    def __init__(self, inner: Oracle, mask: Tensor) -> None:
        self.inner = inner
        self.mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        self.n_rows, self.n_features, self.num_classes = inner.n_rows, inner.n_features, inner.num_classes
        self.class_shares, self.noise, self.device = inner.class_shares, inner.noise, inner.device
        self.passes = 0

    def sums(self, weight: Tensor, curvature: bool) -> tuple[Tensor, Tensor, Tensor | None]:  # noqa: D102
        loss, gradient, diagonal = self.inner.sums(weight, curvature)
        return loss, gradient * self.mask, diagonal

    def block_sums(self, weight: Tensor) -> Tensor:  # noqa: D102
        return self.inner.block_sums(weight)


def refit(oracle: Oracle, point: PathPoint, mask: Tensor, *, tolerance: float = 1e-2) -> tuple[Tensor, Tensor]:
    """Weights (C, S) and bias (C,) fitted again on the kept support.

    The lasso's shrinkage has done its work of choosing and is dropped; the ridge of the point, λ, stays whole, so
    that separable rows keep a finite solution.

    Args:
        oracle: the loss.
        point: the point of the path.
        mask: (C, S) the support.
        tolerance: KKT residual relative to λ.
    """
    start = torch.cat([point.weight * mask, point.bias[:, None]], 1)
    held = SupportOracle(oracle, mask)
    penalty = ElasticNet(point.lam, 0.0)
    solution = minimise(held, penalty, start, tolerance * point.lam, warmth=Warmth(blocks=True), max_passes=500)
    return solution.weight[:, :-1], solution.weight[:, -1]


def fit_bias(oracle: Oracle, weight: Tensor, *, tolerance: float = 1e-5, max_steps: int = 500) -> Tensor:
    """The bias (C,) of least cross-entropy for weights that stay, their mean 0.

    Each step divides the gradient by twice the Hessian's diagonal, which bounds the Hessian of the biases at the
    present point only: for a class that is improbable in every row the quotient is arbitrarily large. Where such a
    step makes the loss worse, each bias moves at most by that of iterative scaling, the logarithm of the ratio of a
    class's share to its mean probability, which never does.

    Args:
        oracle: the loss.
        weight: (C, S).
        tolerance: of the gradient, a share of the rows.
        max_steps: at most; each takes one pass over the rows, or two.

    Source: Darroch and Ratcliff, Generalized Iterative Scaling (1972).
    """
    found = torch.cat([weight.double(), weight.new_zeros(len(weight), 1).double()], 1)
    now = oracle(found, curvature=True)
    for _ in range(max_steps):
        assert now.curvature is not None
        gradient = now.gradient[:, -1]
        if float(gradient.abs().max()) <= tolerance:
            break
        step = gradient / (2 * now.curvature[:, -1]).clamp(min=_LEAST)
        then = oracle(_moved(found, step), curvature=True)
        if not then.loss <= now.loss + oracle.noise * max(1.0, now.loss):
            share = oracle.class_shares.to(gradient)
            most = ((gradient + share).clamp(min=_LEAST) / share.clamp(min=_LEAST)).log().abs()
            step = step.clamp(-most, most)
            then = oracle(_moved(found, step), curvature=True)
        found, now = _moved(found, step), then
    return (found[:, -1] - found[:, -1].mean()).to(weight)


def _moved(weight: Tensor, step: Tensor) -> Tensor:
    """Weights with the bias in the last column, each bias smaller by its step."""
    return torch.cat([weight[:, :-1], weight[:, -1:] - step[:, None]], 1)
