"""A bound that counts the penalties: a semidefinite relaxation with non-negative pairs, by alternating directions.

With y = (1, s) the products Y = y yᵀ of a choice s of n features are positive semidefinite, non-negative, hold s both
in their first row and on their diagonal, and satisfy Y (−n, 1, …, 1)ᵀ = 0. The relaxation keeps these properties and
forgets that Y has rank one. The classes enter by one multiplier each, as in `lagrangian`.

Every step of the alternating-direction method leaves a matrix Z that is negative semidefinite where Y lives, so that
yᵀ Z y ≤ 0 for every choice, and with it a bound: the best choice of n features, and of n − 1 partners for each of them,
by the objective less Z. Nothing depends on how well the method has converged.

Source: Burer, "On the copositive representation of binary and continuous nonconvex quadratic programs" (2009); Wen,
Goldfarb and Yin, "Alternating direction augmented Lagrangian methods for semidefinite programming" (2010).
"""

from __future__ import annotations

import math

import torch
from scipy.linalg import LinAlgError, eigh
from torch import Tensor

from handful.assignment.lagrangian import falling
from handful.assignment.problem import AssignmentProblem

#: Length of the multipliers' step; below 1.618 it converges.
_STEP = 1.6

#: The price of a distance between the two copies of Y, in units of the mean penalty.
_PRICE = 2.5

#: Subgradient steps of the multipliers per bound.
_LOOKS = 100

#: Newton steps of the multipliers per step.
_TURNS = 3


class Relaxation:
    """The relaxation and its current bound.

    Args:
        problem: the instance, with n below F and some penalty; computed on its device.
        multipliers: (C,) to start from, see `lagrangian_bound`.
    """

    def __init__(self, problem: AssignmentProblem, multipliers: Tensor) -> None:
        self.problem, self.multipliers = problem, multipliers
        count, n = problem.n_candidates, problem.n_features
        self._level = multipliers.new_zeros(1)
        kernel = problem.bias.new_ones(count + 1)
        kernel[0] = -float(n)
        self._kernel = kernel / kernel.norm()
        self._cost = problem.gain.new_zeros(count + 1, count + 1)
        self._cost[1:, 1:] = -problem.penalty / 2
        self._products = problem.gain.new_full((count + 1, count + 1), (n / count) ** 2)
        self._choose(problem.bias.new_full((count,), n / count))
        self._dual = torch.zeros_like(self._cost)
        self._price = _PRICE * float(problem.penalty[problem.penalty > 0].mean())
        self._valid = self._dual
        self._rank = (count + 1) // 2  # of the positive part, as the last step has found it

    def step(self) -> None:
        """One step of the method: the positive eigenvectors of F + 1 rows, or the negative ones, in float32."""
        price, cost = self._price, self._cost
        semidefinite, self._rank = _positive_part(self._inside(self._products + self._dual / price), self._rank)
        apart = self._products - semidefinite
        self._valid = self._dual + price * apart
        self._dual = self._dual + _STEP * price * apart
        centre = semidefinite + (cost - self._dual) / price
        share = self._prefer((2 * centre[0, 1:] + centre.diagonal()[1:]) / 3)
        self._products = centre.clamp_(0.0, 1.0)
        self._choose(share)

    def bound(self) -> float:
        """What no choice can exceed, by the multipliers of the last step; in float64."""
        problem, n = self.problem, self.problem.n_features
        # what rounding has left above zero counts for at most |y|² = n + 1
        above = _above_all_eigenvalues(self._inside(self._valid))
        left = self._cost - self._valid
        partners = left[1:, 1:].clone().fill_diagonal_(-math.inf).topk(n - 1, dim=1).values.sum(dim=1)
        worth = 2 * left[0, 1:] + left.diagonal()[1:] + problem.bias + partners
        constant = float(left[0, 0]) + (n + 1) * above
        value, self.multipliers = falling(problem, worth, self.multipliers, steps=_LOOKS)
        return constant + value

    def _inside(self, matrix: Tensor) -> Tensor:
        """The part of a symmetric matrix on the space that is orthogonal to (−n, 1, …, 1)."""
        along = matrix @ self._kernel
        outer = torch.outer(along, self._kernel)
        both = torch.outer(self._kernel, self._kernel) * (self._kernel @ along)
        found = matrix - outer - outer.T + both
        return (found + found.T) / 2

    def _prefer(self, centre: Tensor) -> Tensor:
        """Shares `(F,)` in [0, 1] of sum n near `centre` that serve the classes; moves the multipliers along.

        The largest of Σ gain E + bias s − weight/2 |s − centre|² by its dual, in Newton steps: the multipliers of "k
        features per class" and one of "n features", as if for a class that wants every feature.
        """
        problem, weight = self.problem, 3 * self._price
        dual = _Shares(problem, centre + problem.bias / weight, weight)
        point = torch.cat([self.multipliers, self._level])
        for _ in range(_TURNS):
            point = dual.newton(point)
        self.multipliers, self._level = point[:-1], point[-1:]
        return dual.shares(point)

    def _choose(self, share: Tensor) -> None:
        """Write shares into the first row, the first column and the diagonal."""
        self._products[0, 1:], self._products[1:, 0] = share, share
        self._products.diagonal().copy_(torch.cat([share.new_ones(1), share]))


def _positive_part(matrix: Tensor, rank: int) -> tuple[Tensor, int]:
    """The nearest positive semidefinite matrix, to float32's precision, and its rank.

    Computed from its own eigenvectors or from those of the negative part, whichever are fewer by the rank that is
    expected; on the CPU the others are not computed.
    """
    positive = 2 * rank <= len(matrix)
    values, vectors = _eigenvectors(matrix.float(), positive)
    part = ((vectors * values) @ vectors.T).to(matrix)
    return (part, len(values)) if positive else (matrix - part, len(matrix) - len(values))


def _eigenvectors(matrix: Tensor, positive: bool) -> tuple[Tensor, Tensor]:
    """Eigenvalues above 0, or the others, and their eigenvectors `(F, m)`."""
    if matrix.device.type == "cpu":
        ends = (0.0, math.inf) if positive else (-math.inf, 0.0)
        try:
            found = eigh(matrix.numpy(), driver="evr", subset_by_value=ends, check_finite=False)
            return torch.from_numpy(found[0]), torch.from_numpy(found[1])
        except LinAlgError:  # it cannot part eigenvalues that are nearly equal, as of the first steps
            pass
    values, vectors = torch.linalg.eigh(matrix)
    wanted = (values > 0) if positive else (values <= 0)
    return values[wanted], vectors[:, wanted]


def _above_all_eigenvalues(matrix: Tensor) -> float:
    """A number at least 0 and above all eigenvalues of a symmetric matrix in float64, close where they are nearly 0.

    What is above them leaves a positive definite matrix, which has a Cholesky factor.
    """
    above = 1e-8 * float(matrix.abs().max()) + 1e-300
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    while above < math.inf and int(torch.linalg.cholesky_ex(above * identity - matrix).info):
        above *= 4
    return above


class _Shares:
    """The dual of choosing shares near a centre, as a function of a multiplier per class and one of their sum."""

    def __init__(self, problem: AssignmentProblem, centre: Tensor, weight: float) -> None:
        self.problem, self.centre, self.weight = problem, centre, weight
        k = problem.gain.new_full((problem.n_classes,), problem.features_per_class)
        self.sums = torch.cat([k, k.new_full((1,), problem.n_features)])

    def _unbounded(self, point: Tensor) -> Tensor:
        wanted = (self.problem.gain - point[:-1, None]).clamp_(min=0).sum(dim=0)
        return self.centre + (wanted - point[-1]) / self.weight

    def shares(self, point: Tensor) -> Tensor:
        """Of every feature `(F,)`."""
        return self._unbounded(point).clamp_(0.0, 1.0)

    def value(self, point: Tensor) -> float:
        """Convex in the multipliers."""
        free = self._unbounded(point)
        own = free.square() - (free - free.clamp(0.0, 1.0)).square()
        return float(self.sums @ point + self.weight / 2 * own.sum())

    def newton(self, point: Tensor) -> Tensor:
        """A Newton step, shortened until the value falls."""
        gain, free = self.problem.gain, self._unbounded(point)
        share = free.clamp(0.0, 1.0)
        uses = (gain > point[:-1, None]).to(gain)
        slope = self.sums - torch.cat([uses @ share, share.sum()[None]])
        inside = torch.cat([uses, torch.ones_like(uses[:1])])[:, (free > 0) & (free < 1)]
        curvature = inside @ inside.T / self.weight
        # a feature enters or leaves a class where its gain is the multiplier: steps of the slope, smoothed
        width = 0.1 * gain.std()
        near = ((gain - point[:-1, None]).abs() < width).to(gain) @ share / (2 * width)
        curvature.diagonal()[:-1] += near
        curvature.diagonal().add_(1e-6 * curvature.diagonal().mean() + 1e-12)
        step = torch.linalg.solve(curvature, slope)
        before = self.value(point)
        for shorter in range(8):
            ahead = point - step / 2**shorter
            if self.value(ahead) < before:
                return ahead
        return point
