"""The published solver's iterates without its waste: proximal SAGA along the path, as in glm-saga.

Reference: Wong, Santurkar & Madry, "Leveraging Sparse Linear Layers for Debuggable Deep Networks" (2021), algorithm 1,
and the package `glm-saga` 0.1.2, whose batches, steps, stopping and order of random numbers are kept: mini-batches of
256, constant step, and a λ is left when the objective of an epoch has not fallen by 1e-4 for five epochs. It therefore
stops above the optimum, the more so the smaller λ, and acts as early stopping; methods tuned on it (Q-SENN) depend on
that. The gradient is one matrix product a batch instead of a batch × C × F tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import softshrink

from handful.sparse.minimise import lambda_max
from handful.sparse.oracle import MemoryOracle, full_precision
from handful.sparse.path import PathPoint, density
from handful.sparse.penalty import ElasticNet


class ShuffledRows:
    """Row numbers in a new random order for every pass; a sampler for a `DataLoader`, too.

    Args:
        n_rows: how many.
        generator: drawn from once for every order.
    """

    def __init__(self, n_rows: int, generator: torch.Generator) -> None:
        self.n_rows, self.generator = n_rows, generator

    def __len__(self) -> int:
        return self.n_rows

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())

    def order(self) -> Tensor:
        """A permutation (N,)."""
        return torch.randperm(self.n_rows, generator=self.generator)


class SlowProgress:
    """The reference's stopping rule: no better by `tol` for `patience` epochs in a row."""

    def __init__(self, tol: float, patience: int) -> None:
        self.tol, self.patience = tol, patience
        self.best = float("inf")
        self.idle = 0

    def stop(self, objective: float) -> bool:
        """Takes the objective of an epoch and says whether it was the last."""
        if objective + self.tol < self.best:
            self.best, self.idle = objective, 0
        else:
            self.idle += 1
        return self.idle >= self.patience


def saga_path(
    design: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    alpha: float = 0.99,
    n_lambdas: int = 100,
    epsilon: float = 1e-3,
    seed: int = 0,
    step: float = 0.1,
    batch: int = 256,
    max_epochs: int = 2000,
    patience: int = 5,
    tol: float = 1e-4,
    include_zero: bool = False,
    stop_density: float | None = None,
    tick: Callable[[PathPoint], None] | None = None,
) -> list[PathPoint]:
    """The path by proximal SAGA; equal to the package's to rounding for the same seed.

    Memory: 4·N·C bytes for the table of gradients.

    Args:
        design: (N, S+1) standardised features with a last column of ones.
        labels: (N,) int64.
        num_classes: C.
        alpha: elastic-net mixing.
        n_lambdas: length of the grid.
        epsilon: smallest λ of the grid as a share of the largest.
        seed: of the order of rows.
        step: step size.
        batch: rows per step.
        max_epochs: a λ is left after so many.
        patience: epochs without progress before a λ is left.
        tol: what counts as progress.
        include_zero: whether to end with λ = 0, as the published recipe does.
        stop_density: ends at the second point in a row that is denser.
        tick: called with every point.
    """
    n = len(design)
    labels = labels.to(design.device)
    oracle = MemoryOracle(design, labels, num_classes)
    first = oracle(oracle.bias_only())
    largest = lambda_max(first.gradient, alpha)
    rows = ShuffledRows(n, torch.Generator().manual_seed(seed))
    weight = torch.zeros(num_classes, design.shape[1], dtype=design.dtype, device=design.device)
    table = torch.zeros(n, num_classes, dtype=design.dtype, device=design.device)
    average = torch.zeros_like(weight)
    points: list[PathPoint] = []
    over = 0
    for index, lam in enumerate(reference_grid(largest, n_lambdas, epsilon, include_zero)):
        threshold, shrink = step * lam * alpha, 1 + step * lam * (1 - alpha)
        slow = SlowProgress(tol, patience)
        epochs = 0
        while epochs < max_epochs:
            epochs += 1
            loss = 0.0
            with full_precision():
                for taken in rows.order().to(design.device).split(batch):
                    x, own = design[taken], labels[taken, None]
                    residual, mean_loss = residuals(x @ weight.t(), own)
                    loss += mean_loss * len(taken)
                    change = residual - table[taken]
                    table[taken] = residual
                    turn = (change.t() @ x) / len(taken)
                    weight = weight - step * (turn + average)
                    weight[:, :-1] = softshrink(weight[:, :-1], threshold) / shrink
                    average.add_(turn, alpha=len(taken) / n)
            w = weight[:, :-1]
            # rounded as the package rounds it: whether a λ is left now or an epoch later can hang on it
            size = lam * alpha * w.norm(p=1) + 0.5 * lam * (1 - alpha) * w.square().sum()
            if slow.stop((loss / n + size).item()):
                break
        rows.order()  # the package goes over the rows once more, for the training accuracy
        points.append(measured(oracle, weight.double(), index, lam, alpha, largest, epochs))
        if tick is not None:
            tick(points[-1])
        over = over + 1 if stop_density is not None and points[-1].density > stop_density else 0
        if over >= 2:
            break
    return points


def residuals(logits: Tensor, own: Tensor) -> tuple[Tensor, float]:
    """Softmax minus one-hot labels (B, C), and the mean cross-entropy; `own` are the labels (B, 1)."""
    shares = torch.softmax(logits, 1)
    p = shares.gather(1, own)
    nats = p.log() if float(p.min()) > 1e-30 else logits.gather(1, own) - logits.logsumexp(1, keepdim=True)
    shares.scatter_add_(1, own, torch.full_like(p, -1.0))
    return shares, -nats.mean().item()


def measured(
    oracle: MemoryOracle, weight: Tensor, index: int, lam: float, alpha: float, largest: float, epochs: int
) -> PathPoint:
    """The record of a stochastic solver's weights (C, S+1): true objective and KKT residual, in float64."""
    penalty = ElasticNet(lam, alpha)
    seen = oracle(weight)
    scale = (lam if lam > 0 else 1e-3 * largest) * max(alpha, 1e-3)
    return PathPoint(
        index=index,
        lam=lam,
        weight=weight[:, :-1].clone(),
        bias=weight[:, -1].clone(),
        density=density(weight[:, :-1]),
        objective=seen.loss + penalty.value(weight),
        kkt=penalty.residual(penalty.pseudo_gradient(weight, seen.gradient)) / scale,
        passes=epochs,
    )


def reference_grid(largest: float, n_lambdas: int, epsilon: float, include_zero: bool) -> Sequence[float]:
    """The package's grid: float32 and evenly in log10."""
    ends = torch.tensor([largest, epsilon * largest], dtype=torch.float64).log10().tolist()
    grid: list[float] = torch.logspace(ends[0], ends[1], n_lambdas).tolist()
    return [*grid, 0.0] if include_zero else grid
