"""A bound in a second: a multiplier per class for "exactly k features", penalties of similar features left out."""

from __future__ import annotations

from torch import Tensor

from handful.assignment.problem import AssignmentProblem


def lagrangian_bound(problem: AssignmentProblem, *, steps: int = 800) -> tuple[float, Tensor]:
    """The smallest `k Σ u + Σ of the n largest ρ` found, `ρ_i = bias_i + Σ_c max(gain_ci − u_c, 0)`.

    Every u is a bound on the objective; penalties can only lower that. Subgradient steps from the 2k-th gains. Returns
    the bound and its u `(C,)`.

    Args:
        problem: the instance; computed on its device.
        steps: of the subgradient method.

    Example:
        >>> import torch
        >>> gain = torch.tensor([[3.0, 2.0, 0.0, 1.0], [0.0, 2.0, 3.0, 1.0]])
        >>> problem = AssignmentProblem(gain, torch.zeros(4, 4), torch.zeros(4), n_features=3, features_per_class=2)
        >>> 10 <= lagrangian_bound(problem)[0] < 10.01
        True
    """
    ordered = problem.gain.sort(dim=1, descending=True).values
    start = ordered[:, min(2 * problem.features_per_class, problem.n_candidates) - 1].clone()
    return falling(problem, problem.bias, start, steps=steps)


def falling(problem: AssignmentProblem, worth: Tensor, multipliers: Tensor, steps: int) -> tuple[float, Tensor]:
    """The smallest `k Σ u + Σ of the n largest worth_i + Σ_c max(gain_ci − u_c, 0)` found, and its u `(C,)`.

    Args:
        problem: the instance.
        worth: (F,) of the features beside the classes' gains.
        multipliers: (C,) u to start from.
        steps: of the subgradient method.
    """
    gain, k, n = problem.gain, problem.features_per_class, problem.n_features
    best, least, step, stale = float("inf"), multipliers, 1.0, 0
    for _ in range(steps):
        above = (gain - multipliers[:, None]).clamp(min=0)
        chosen = (above.sum(dim=0) + worth).topk(n)
        value = float(k * multipliers.sum() + chosen.values.sum())
        if value < best - 1e-9 * max(1.0, abs(best)) or best == float("inf"):
            best, least, stale = value, multipliers.clone(), 0
        else:
            stale += 1
            if stale > 15:
                multipliers, step, stale = least.clone(), 0.7 * step, 0
                continue
        slope = k - (above[:, chosen.indices] > 0).sum(dim=1)
        size = float(slope.square().sum())
        if not size or step < 1e-6:
            break
        multipliers = multipliers - step * 0.02 * max(abs(best), 1e-12) / size * slope
    return best, least


def without_hopeless(problem: AssignmentProblem, bound: float, multipliers: Tensor, least: float) -> Tensor:
    """The features `(G,)`, ascending, that a solution of at least the value `least` can hold.

    A feature that is worth less than the n-th best by more than `bound` exceeds `least` is in none.

    Args:
        problem: the instance.
        bound: of these multipliers or above.
        multipliers: (C,) see `lagrangian_bound`.
        least: value of a solution that is known, equal classes and unused features allowed.
    """
    worth = (problem.gain - multipliers[:, None]).clamp(min=0).sum(dim=0) + problem.bias
    lacking = (worth.topk(problem.n_features).values[-1] - worth).clamp(min=0)
    return (bound - lacking >= least).nonzero()[:, 0]
