"""Stand-ins for the Hessian of the loss from which L-BFGS starts: its diagonal, or one block per class.

The blocks are those of the partial Newton method for multinomial models (Friedman, Hastie & Tibshirani,
"Regularization Paths for Generalized Linear Models via Coordinate Descent", 2010, section 4.1). What they leave out,
how two classes hang together, the curvature pairs of L-BFGS learn; what the pairs alone would learn slowly, how the
features of a class hang together, the blocks have from the start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from handful.sparse.oracle import Oracle
from handful.sparse.penalty import Penalty

#: Flat directions get this share of the mean curvature, or their first step would be wild.
_FLOOR = 1e-2

#: Relative weight added to the diagonal of a block: repeated columns make it singular to rounding.
_JITTER = 1e-4

#: A block is factored again once an entry of its diagonal has moved by this share.
_DRIFT = 0.1

#: Largest number of entries of all blocks: 64 MiB in float32, held twice.
_ENTRIES = 1 << 24


class Metric(ABC):
    """A positive definite stand-in for the Hessian."""

    @abstractmethod
    def inverse(self, penalty: Penalty, weight: Tensor, pseudo: Tensor) -> Callable[[Tensor], Tensor]:
        """The inverse on the free variables at `weight`, as a map of (C, F+1) onto (C, F+1), zero elsewhere.

        Args:
            penalty: says which variables are free and adds its own curvature.
            weight: (C, F+1) float64.
            pseudo: the minimal subgradient at the weights.
        """


class Diagonal(Metric):
    """The Hessian's diagonal.

    Args:
        curvature: (C, F+1) float64, of the loss.
    """

    def __init__(self, curvature: Tensor) -> None:
        self._curvature = curvature.clamp(min=_FLOOR * curvature.mean().item())

    def inverse(self, penalty: Penalty, weight: Tensor, pseudo: Tensor) -> Callable[[Tensor], Tensor]:  # noqa: D102
        inverse = penalty.free(weight, pseudo) / penalty.curvature(weight, pseudo, self._curvature)
        return inverse.mul


class ClassBlocks(Metric):
    """The Hessian's blocks of one class each.

    Only classes whose free variables have changed since the last call are factored again. Memory: 2 C (F+1)²
    numbers of the features' precision; up to 3 while the oracle adds them up.

    Args:
        blocks: (C, F+1, F+1) of the loss, in the features' precision.
    """

    def __init__(self, blocks: Tensor) -> None:
        self._blocks = blocks
        curvature = blocks.diagonal(dim1=1, dim2=2).double()
        self._curvature = curvature.clamp(min=_FLOOR * curvature.mean().item())
        self._factors = torch.zeros_like(blocks)
        self._diagonal = torch.zeros_like(self._curvature)
        # as many blocks at a time as a CPU's cache holds; on a GPU as many as keep it busy
        self._at_once = max(1, (1 << (17 if blocks.device.type == "cpu" else 22)) // blocks[0].numel())
        self._free = torch.zeros_like(self._curvature, dtype=torch.bool)

    def inverse(self, penalty: Penalty, weight: Tensor, pseudo: Tensor) -> Callable[[Tensor], Tensor]:  # noqa: D102
        free = penalty.free(weight, pseudo)
        diagonal = penalty.curvature(weight, pseudo, self._curvature)
        moved = (diagonal - self._diagonal).abs() > _DRIFT * diagonal
        classes = ((free != self._free) | moved).any(1).nonzero()[:, 0]
        for some in classes.split(self._at_once):
            self._factor(some, diagonal[some], free[some])

        def apply(vector: Tensor) -> Tensor:
            # two triangular solves copy nothing; torch.cholesky_solve copies all factors
            right = (vector * free).to(self._factors.dtype)[:, :, None]
            half = torch.linalg.solve_triangular(self._factors, right, upper=False)
            return torch.linalg.solve_triangular(self._factors.mT, half, upper=True)[:, :, 0].double()

        return apply

    def _factor(self, classes: Tensor, diagonal: Tensor, free: Tensor) -> None:
        kept = free.to(self._blocks.dtype)
        block = self._blocks[classes]
        block *= kept[:, :, None]
        block *= kept[:, None, :]
        # a group that enters has another group's curvature, which may be less than its block's own
        own = torch.maximum(diagonal.to(block.dtype), self._blocks.diagonal(dim1=1, dim2=2)[classes])
        own = torch.where(free, own * (1 + _JITTER), 1.0)
        block.diagonal(dim1=1, dim2=2).copy_(own)
        factor, failed = torch.linalg.cholesky_ex(block)
        if failed.any():
            # rounding left a block without a factor: its diagonal does
            factor = torch.where(failed[:, None, None] == 0, factor, torch.diag_embed(own.sqrt()))
        self._factors[classes] = factor
        self._diagonal[classes], self._free[classes] = diagonal, free


def blocks_pay(oracle: Oracle) -> bool:
    """Whether factoring all blocks takes at most a third of the products of a pass, and they fit into memory.

    The pass is that of one process over all rows, however many share them: so all numbers of processes go the same way.
    """
    width = oracle.n_features + 1
    return width**2 <= 4 * oracle.n_rows and oracle.num_classes * width**2 <= _ENTRIES
