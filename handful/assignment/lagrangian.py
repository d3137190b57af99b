"""A bound in a second: a multiplier per class for "exactly k features", penalties of similar features left out."""

from __future__ import annotations

from handful.assignment.problem import AssignmentProblem


def lagrangian_bound(problem: AssignmentProblem, *, steps: int = 800) -> float:
    """The smallest `k Σ u + Σ of the n largest ρ` found, `ρ_i = bias_i + Σ_c max(gain_ci − u_c, 0)`.

    Every u is a bound on the objective; penalties can only lower that. Subgradient steps from the 2k-th gains.

    Args:
        problem: the instance; computed on its device.
        steps: of the subgradient method.

    Example:
        >>> import torch
        >>> gain = torch.tensor([[3.0, 2.0, 0.0, 1.0], [0.0, 2.0, 3.0, 1.0]])
        >>> problem = AssignmentProblem(gain, torch.zeros(4, 4), torch.zeros(4), n_features=3, features_per_class=2)
        >>> 10 <= lagrangian_bound(problem) < 10.01
        True
    """
    gain, k, n = problem.gain, problem.features_per_class, problem.n_features
    ordered = gain.sort(dim=1, descending=True).values
    multipliers = ordered[:, min(2 * k, gain.shape[1]) - 1].clone()
    best, least, step, stale = float("inf"), multipliers.clone(), 1.0, 0
    for _ in range(steps):
        above = (gain - multipliers[:, None]).clamp(min=0)
        chosen = (above.sum(dim=0) + problem.bias).topk(n)
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
    return best
