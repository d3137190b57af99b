"""Minimises cross-entropy plus a penalty to a wanted optimality: orthant-wise, active-set L-BFGS.

The smooth part is seen through an `Oracle`, one pass a trial point. Directions come from limited-memory BFGS on the
free variables (Andrew & Gao, "Scalable training of L1-regularized log-linear models", 2007; for groups the same on the
groups that are not zero). It starts from the diagonal of the Hessian, in a long run from blocks of one class each.
Exact zeros come from the projection.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from handful.sparse.hessian import ClassBlocks, Diagonal, Metric, blocks_pay
from handful.sparse.lbfgs import Memory
from handful.sparse.oracle import Evaluation, Oracle
from handful.sparse.penalty import Penalty

_BACKTRACK = 0.4
_TRIALS = 12

#: Solves after which the Hessian's diagonal is computed again.
_REFRESH = 5


@dataclass
class Warmth:
    """What one solve leaves to the next over the same oracle: curvature pairs, and the metric they start from.

    Attributes:
        memory: pairs of earlier steps.
        metric: None before the first pass.
        solves: how many have used the metric.
        passes: the oracle's count when the first metric, or the last blocks, were made.
        blocks: whether the metric may become `ClassBlocks`.
    """

    memory: Memory = field(default_factory=Memory)
    metric: Metric | None = None
    solves: int = 0
    passes: int = 0
    blocks: bool = False


@dataclass(frozen=True)
class Solution:
    """A minimum, or as near as the passes allowed.

    Attributes:
        weight: (C, F+1) float64, bias last, exact zeros.
        evaluation: loss and gradient at the weights.
        objective: loss + penalty, float64.
        residual: KKT residual, absolute.
        passes: passes over the rows that the solve took.
        converged: whether the residual is within the tolerance asked for.
    """

    weight: Tensor
    evaluation: Evaluation
    objective: float
    residual: float
    passes: int
    converged: bool


def minimise(
    oracle: Oracle,
    penalty: Penalty,
    weight: Tensor,
    tolerance: float,
    *,
    warmth: Warmth | None = None,
    evaluation: Evaluation | None = None,
    max_passes: int = 600,
) -> Solution:
    """Minimises loss + penalty from `weight`.

    Args:
        oracle: the loss.
        penalty: the penalty.
        weight: start (C, F+1) float64.
        tolerance: the absolute KKT residual to reach.
        warmth: carried from solve to solve, changed in place.
        evaluation: of the loss at `weight`, where already known.
        max_passes: gives up after so many passes.
    """
    warmth = warmth or Warmth()
    memory = warmth.memory
    first_pass = oracle.passes
    if warmth.metric is None:
        warmth.passes = first_pass
    if warmth.metric is None or (isinstance(warmth.metric, Diagonal) and warmth.solves >= _REFRESH):
        evaluation = oracle(weight, curvature=True)
        assert evaluation.curvature is not None
        warmth.metric = Diagonal(evaluation.curvature)
        warmth.solves = 0
    elif evaluation is None:
        evaluation = oracle(weight)
    warmth.solves += 1
    blocks = warmth.blocks and blocks_pay(oracle)
    objective = evaluation.loss + penalty.value(weight)
    pseudo = penalty.pseudo_gradient(weight, evaluation.gradient)
    stuck = 0
    while True:
        residual = penalty.residual(pseudo)
        if residual <= tolerance or oracle.passes - first_pass >= max_passes or stuck > 1:
            break
        # blocks cost a quarter to half as many passes as they have columns: so they stay a small part of the work
        if blocks and oracle.passes - warmth.passes > 1.5 * max(8, weight.shape[1]):
            warmth.metric = None  # the old blocks go before the new ones come
            warmth.metric = ClassBlocks(oracle.blocks(weight))
            warmth.passes = oracle.passes
        direction = _direction(warmth.metric, memory, penalty, weight, pseudo)
        step = 1.0
        for _ in range(_TRIALS):
            trial = penalty.project(weight + step * direction, weight, pseudo)
            move = trial - weight
            slope = (pseudo * move).sum().item()
            seen = oracle(trial)
            value = seen.loss + penalty.value(trial)
            ahead = penalty.pseudo_gradient(trial, seen.gradient)
            # where the decrease drowns in rounding, the slope at the trial point decides (Hager & Zhang 2005)
            level = value <= objective + oracle.noise * max(1.0, abs(objective))
            flat = (ahead * move).sum().item() <= 0.9 * abs(slope)
            if value <= objective + 1e-4 * slope or (level and flat):
                memory.push(move, seen.gradient - evaluation.gradient + penalty.secant(trial, weight))
                weight, evaluation, objective, pseudo = trial, seen, value, ahead
                break
            step *= _BACKTRACK
        else:
            memory.clear()
            stuck += 1
    weight = weight.clone()
    # a constant added to all biases changes nothing: the centred bias stands for all of them
    weight[:, -1] -= weight[:, -1].mean()
    return Solution(weight, evaluation, objective, residual, oracle.passes - first_pass, residual <= tolerance)


def _direction(metric: Metric, memory: Memory, penalty: Penalty, weight: Tensor, pseudo: Tensor) -> Tensor:
    """A direction of descent (C, F+1) on the face of `weight`."""
    inverse = metric.inverse(penalty, weight, pseudo)
    direction = penalty.confine(-memory.solve(pseudo, inverse, penalty.free(weight, pseudo)), weight, pseudo)
    if (direction * pseudo).sum().item() < 0:
        return direction
    memory.clear()
    return -inverse(pseudo)


def lambda_max(gradient: Tensor, alpha: float, *, group: bool = False) -> float:
    """The smallest λ at which all weights are zero, from the gradient (C, F+1) at the bias-only solution.

    As in glm-saga, α is taken as at least 0.001, so that a pure ridge penalty has a finite grid too.
    """
    g = gradient[:, :-1]
    steepest = (g.norm(dim=0) if group else g.abs()).max().item() if g.numel() else 0.0
    return steepest / max(1e-3, alpha)


def lambda_grid(largest: float, n_lambdas: int, epsilon: float) -> list[float]:
    """`n_lambdas` values from `largest` down to `epsilon · largest`, evenly in the logarithm."""
    if n_lambdas == 1:
        return [largest]
    exponents = torch.linspace(0.0, 1.0, n_lambdas, dtype=torch.float64)
    return (largest * epsilon**exponents).tolist()
