"""The two penalties, elastic net and group elastic net, and what a solver needs to know of them.

With W (C, F) the weights without the bias, both are  λ (α R(W) + (1 − α)/2 ‖W‖²)  where R is the sum of absolute
weights (`ElasticNet`; Wong et al., "Leveraging Sparse Linear Layers for Debuggable Deep Networks", 2021, eq. 1) or
the sum over features of the norm of their C weights (`GroupElasticNet`; ibid., appendix). The bias is free.
Weights are (C, F+1) float64, the bias last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

_TINY = 1e-300


@dataclass(frozen=True)
class Penalty(ABC):
    """A penalty of strength λ ≥ 0 and mixing α in [0, 1]."""

    lam: float
    alpha: float

    @property
    def threshold(self) -> float:
        """λ α: the gradient that a weight (group) must exceed to leave zero."""
        return self.lam * self.alpha

    @property
    def ridge(self) -> float:
        """λ (1 − α): the curvature that the penalty adds."""
        return self.lam * (1 - self.alpha)

    def value(self, weight: Tensor) -> float:
        """The penalty at `weight`."""
        w = weight[:, :-1]
        return self.threshold * self._norms(w).sum().item() + 0.5 * self.ridge * w.square().sum().item()

    @abstractmethod
    def pseudo_gradient(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """The minimal-norm subgradient of loss + penalty; zero exactly at the minimum."""

    @abstractmethod
    def residual(self, pseudo: Tensor) -> float:
        """The KKT residual: the largest entry (group norm) of the minimal subgradient."""

    @abstractmethod
    def curvature(self, weight: Tensor, pseudo: Tensor, diagonal: Tensor) -> Tensor:
        """The diagonal of the Hessian of loss + penalty, from that of the loss."""

    @abstractmethod
    def free(self, weight: Tensor, pseudo: Tensor) -> Tensor:
        """Mask (C, F+1) of the weights that may move."""

    @abstractmethod
    def confine(self, direction: Tensor, weight: Tensor, pseudo: Tensor) -> Tensor:
        """The direction without what would leave the face on which the penalty is smooth."""

    @abstractmethod
    def project(self, trial: Tensor, weight: Tensor, pseudo: Tensor) -> Tensor:
        """The trial point with exact zeros where it crossed one."""

    @abstractmethod
    def secant(self, new: Tensor, old: Tensor) -> Tensor:
        """Change of the smooth part's gradient between two points, the loss excluded."""

    @abstractmethod
    def dual_excess(self, gradient: Tensor) -> Tensor:
        """How far the weights' gradient (C, F) lies above the threshold, entry by entry (group by group)."""

    @abstractmethod
    def _norms(self, w: Tensor) -> Tensor: ...


class ElasticNet(Penalty):
    """λ (α ‖W‖₁ + (1 − α)/2 ‖W‖²)."""

    def pseudo_gradient(self, weight: Tensor, gradient: Tensor) -> Tensor:  # noqa: D102
        out = gradient.clone()
        w, g = weight[:, :-1], gradient[:, :-1] + self.ridge * weight[:, :-1]
        out[:, :-1] = torch.where(w != 0, g + self.threshold * w.sign(), _shrink(g, self.threshold))
        return out

    def residual(self, pseudo: Tensor) -> float:  # noqa: D102
        return pseudo.abs().max().item()

    def curvature(self, weight: Tensor, pseudo: Tensor, diagonal: Tensor) -> Tensor:  # noqa: D102
        return diagonal + self.ridge

    def free(self, weight: Tensor, pseudo: Tensor) -> Tensor:  # noqa: D102
        return (weight != 0) | (pseudo != 0)

    def confine(self, direction: Tensor, weight: Tensor, pseudo: Tensor) -> Tensor:  # noqa: D102
        # a weight at zero may only leave it downhill (orthant-wise: Andrew & Gao 2007)
        wrong = (weight == 0) & (direction * pseudo > 0)
        wrong[:, -1] = False
        return direction.masked_fill(wrong, 0.0)

    def project(self, trial: Tensor, weight: Tensor, pseudo: Tensor) -> Tensor:  # noqa: D102
        orthant = torch.where(weight != 0, weight, -pseudo)
        crossed = trial * orthant <= 0
        crossed[:, -1] = False
        return trial.masked_fill(crossed, 0.0)

    def secant(self, new: Tensor, old: Tensor) -> Tensor:  # noqa: D102
        out = self.ridge * (new - old)
        out[:, -1] = 0
        return out

    def dual_excess(self, gradient: Tensor) -> Tensor:  # noqa: D102
        return (gradient.abs() - self.threshold).clamp(min=0)

    def _norms(self, w: Tensor) -> Tensor:
        return w.abs()


class GroupElasticNet(Penalty):
    """λ (α Σ_j ‖W_{:,j}‖ + (1 − α)/2 ‖W‖²): a feature is in or out for all classes at once."""

    def pseudo_gradient(self, weight: Tensor, gradient: Tensor) -> Tensor:  # noqa: D102
        out = gradient.clone()
        w = weight[:, :-1]
        g = gradient[:, :-1] + self.ridge * w
        size, steep = w.norm(dim=0), g.norm(dim=0)
        inside = g + self.threshold * w / size.clamp(min=_TINY)
        outside = g * ((steep - self.threshold).clamp(min=0) / steep.clamp(min=_TINY))
        out[:, :-1] = torch.where(size > 0, inside, outside)
        return out

    def residual(self, pseudo: Tensor) -> float:  # noqa: D102
        return pseudo.norm(dim=0).max().item()

    def curvature(self, weight: Tensor, pseudo: Tensor, diagonal: Tensor) -> Tensor:  # noqa: D102
        out = diagonal.clone()
        size = weight[:, :-1].norm(dim=0)
        alive = size > 0
        out[:, :-1] += self.ridge + torch.where(alive, self.threshold / size.clamp(min=_TINY), 0.0)
        entering = ~alive & (pseudo[:, :-1].norm(dim=0) > 0)
        # a group at zero has no curvature of its own yet: take the others' mean, so that its first step is modest
        out[:, :-1] = torch.where(entering, out[:, :-1].mean(), out[:, :-1])
        return out

    def free(self, weight: Tensor, pseudo: Tensor) -> Tensor:  # noqa: D102
        moving = (weight.norm(dim=0) > 0) | (pseudo.norm(dim=0) > 0)
        moving[-1] = True
        return moving.expand_as(weight)

    def confine(self, direction: Tensor, weight: Tensor, pseudo: Tensor) -> Tensor:  # noqa: D102
        return direction

    def project(self, trial: Tensor, weight: Tensor, pseudo: Tensor) -> Tensor:  # noqa: D102
        w = weight[:, :-1]
        turned = (w.norm(dim=0) > 0) & ((trial[:, :-1] * w).sum(0) <= 0)
        out = trial.clone()
        out[:, :-1].masked_fill_(turned, 0.0)
        return out

    def secant(self, new: Tensor, old: Tensor) -> Tensor:  # noqa: D102
        w, v = new[:, :-1], old[:, :-1]
        size, before = w.norm(dim=0), v.norm(dim=0)
        both = (size > 0) & (before > 0)
        turn = w / size.clamp(min=_TINY) - v / before.clamp(min=_TINY)
        out = torch.zeros_like(new)
        out[:, :-1] = self.ridge * (w - v) + self.threshold * turn * both
        return out

    def dual_excess(self, gradient: Tensor) -> Tensor:  # noqa: D102
        return (gradient.norm(dim=0) - self.threshold).clamp(min=0)

    def _norms(self, w: Tensor) -> Tensor:
        return w.norm(dim=0)


def _shrink(g: Tensor, threshold: float) -> Tensor:
    return g.sign() * (g.abs() - threshold).clamp(min=0)
