"""The regularisation path: its points, its records, and the exact solver over a grid of λ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from handful.errors import UserError
from handful.sparse.duality_gap import DualityGap
from handful.sparse.lbfgs import Memory
from handful.sparse.minimise import Solution, Warmth, minimise
from handful.sparse.oracle import Evaluation, Oracle
from handful.sparse.penalty import ElasticNet

Record = dict[str, float | int | None]


@dataclass
class PathPoint:
    """One point of the path.

    Attributes:
        index: of λ in the grid.
        lam: λ.
        weight: (C, S) float64 on standardised features, exact zeros.
        bias: (C,) float64.
        density: mean number of non-zero weights per class.
        objective: mean cross-entropy (nats) + penalty, float64.
        kkt: KKT residual relative to λ α (to λ max(α, 0.001)): 0 at the minimum, 1 and more is not solved.
        passes: passes over the rows (epochs for the stochastic solvers).
        gap: duality gap in nats, where asked for.
        train_accuracy: share of right predictions on the fitted rows, where computed.
        val_accuracy: on the held-out rows, where given.

    Example:
        >>> point = PathPoint(0, 0.1, torch.tensor([[0.0, 2.0]]), torch.zeros(1), 1.0, 0.5, 0.01, 7)
        >>> point.record()["density"]
        1.0
    """

    index: int
    lam: float
    weight: Tensor
    bias: Tensor
    density: float
    objective: float
    kkt: float
    passes: int
    gap: float | None = None
    train_accuracy: float | None = None
    val_accuracy: float | None = None

    def record(self) -> Record:
        """The plain values of the point, the same for all solvers."""
        return {
            "index": self.index,
            "lam": self.lam,
            "density": self.density,
            "objective": self.objective,
            "kkt": self.kkt,
            "gap": self.gap,
            "passes": self.passes,
            "train_accuracy": self.train_accuracy,
            "val_accuracy": self.val_accuracy,
        }


@dataclass
class RegularisationPath:
    """Points from the strongest to the weakest penalty, and how they were found.

    Attributes:
        points: in order of falling λ; those solved, which need not be the whole grid.
        alpha: elastic-net mixing.
        lambda_max: the smallest λ with no weight at all.
        solver: "exact", "saga" or "glm_saga".
        mean: (S,) float64, what standardised the features.
        std: (S,) float64, clamped.

    Example:
        >>> point = PathPoint(0, 0.1, torch.tensor([[0.0, 2.0]]), torch.zeros(1), 1.0, 0.5, 0.01, 7)
        >>> path = RegularisationPath([point], alpha=0.99, lambda_max=0.2, solver="exact")
        >>> len(path), path.records()[0]["passes"]
        (1, 7)
    """

    points: list[PathPoint]
    alpha: float
    lambda_max: float
    solver: str
    mean: Tensor = field(default_factory=lambda: torch.empty(0))
    std: Tensor = field(default_factory=lambda: torch.empty(0))

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[PathPoint]:
        return iter(self.points)

    def __getitem__(self, index: int) -> PathPoint:
        return self.points[index]

    def records(self) -> list[Record]:
        """One row per point: index, lam, density, objective, kkt, gap, passes, train_accuracy, val_accuracy."""
        return [point.record() for point in self.points]

    def save(self, path: str | Path) -> None:
        """Writes tensors and plain values only; `torch.load(weights_only=True)` reads it."""
        torch.save(
            {
                "weights": torch.stack([p.weight for p in self.points]),
                "biases": torch.stack([p.bias for p in self.points]),
                "records": json.dumps(self.records()),
                "alpha": self.alpha,
                "lambda_max": self.lambda_max,
                "solver": self.solver,
                "mean": self.mean,
                "std": self.std,
            },
            path,
        )

    @classmethod
    def load(cls, path: str | Path) -> RegularisationPath:
        """Reads what `save` wrote.

        Raises:
            UserError: where the file is missing or something else.
        """
        try:
            held = torch.load(path, weights_only=True, map_location="cpu")
            rows = json.loads(held["records"])
            points = [
                PathPoint(weight=weight, bias=bias, **row)
                for weight, bias, row in zip(held["weights"], held["biases"], rows, strict=True)
            ]
            return cls(points, held["alpha"], held["lambda_max"], held["solver"], held["mean"], held["std"])
        except Exception as error:  # missing, truncated, of another kind: the unpickler raises anything
            raise UserError(f"{path}: not a saved regularisation path ({error})") from error


class ExactPath:
    """Solves the elastic net over a grid of λ, each point from the ones before it.

    A point starts where the line through the last two solutions, continued to the new λ, leads (kept only if it is
    better than the last solution itself), with the curvature pairs of the whole path so far. On CUB-sized features
    this takes a third of the passes of a plain warm start.

    Args:
        oracle: the loss.
        grid: λ in falling order.
        alpha: elastic-net mixing.
        tolerance: KKT residual to reach, relative to α max(λ, floor · grid[0]).
        floor: from which share of the largest λ on the tolerance no longer tightens; 0 asks for it everywhere.
        memory: curvature pairs.
        max_passes: a λ is left after so many passes.
        gap: whether to bound the distance to the optimum at every point (two passes in all).
    """

    def __init__(
        self,
        oracle: Oracle,
        grid: Sequence[float],
        alpha: float,
        *,
        tolerance: float = 1e-2,
        floor: float = 0.0,
        memory: int = 10,
        max_passes: int = 2000,
        gap: bool = False,
    ) -> None:
        self.oracle, self.grid, self.alpha = oracle, list(grid), alpha
        self.tolerance, self.floor, self.max_passes = tolerance, floor, max_passes
        self.warmth = Warmth(Memory(memory), blocks=True)
        self._gap = DualityGap(oracle) if gap else None
        self.solved: dict[int, Solution] = {}
        #: weights (C, S+1) by index of λ to start from where they are better than what the path itself offers
        self.hints: dict[int, Tensor] = {}

    def solve(self, index: int, weight: Tensor | None = None) -> PathPoint:
        """Solves λ number `index` from `weight` (C, S+1), or from the nearest stronger penalty solved so far."""
        penalty = ElasticNet(self.grid[index], self.alpha)
        spent = self.oracle.passes
        seen = None
        if weight is None:
            weight, seen = self._start(index, penalty)
        if index in self.hints:
            weight, seen = self._better(weight, seen, self.hints[index], penalty)
        scale = max(self.grid[index], self.floor * self.grid[0]) * max(self.alpha, 1e-3)
        solution = minimise(
            self.oracle,
            penalty,
            weight,
            self.tolerance * scale,
            warmth=self.warmth,
            evaluation=seen,
            max_passes=self.max_passes,
        )
        self.solved[index] = solution
        gap = None
        if self._gap is not None:
            gap = self._gap(solution.weight, solution.evaluation, penalty)
        return PathPoint(
            index=index,
            lam=self.grid[index],
            weight=solution.weight[:, :-1],
            bias=solution.weight[:, -1],
            density=density(solution.weight[:, :-1]),
            objective=solution.objective,
            kkt=solution.residual / (self.grid[index] * max(self.alpha, 1e-3)),
            passes=self.oracle.passes - spent,
            gap=gap,
        )

    def run(
        self,
        stop_density: float | None = None,
        patience: int = 2,
        tick: Callable[[PathPoint], None] | None = None,
    ) -> list[PathPoint]:
        """Solves along the grid; ends after `patience` points in a row denser than `stop_density`."""
        points, over = [], 0
        for index in range(len(self.grid)):
            points.append(self.solve(index))
            # only the last two solutions are ever needed again
            self.solved.pop(index - 2, None)
            if tick is not None:
                tick(points[-1])
            over = over + 1 if stop_density is not None and points[-1].density > stop_density else 0
            if over >= patience:
                break
        return points

    def _start(self, index: int, penalty: ElasticNet) -> tuple[Tensor, Evaluation | None]:
        known = [k for k in self.solved if k <= index]
        if not known:
            return self.oracle.bias_only(), None
        last = self.solved[max(known)]
        before = self.solved.get(max(known) - 1)
        if before is None or max(known) != index - 1 or last.passes <= 2:
            return last.weight, last.evaluation
        guess = last.weight + (last.weight - before.weight)
        stays = guess * last.weight > 0
        stays[:, -1] = True
        guess = guess.masked_fill(~stays, 0.0)
        ahead = self.oracle(guess)
        # good or not, the step reveals something of the curvature
        turn = ahead.gradient - last.evaluation.gradient + penalty.secant(guess, last.weight)
        self.warmth.memory.push(guess - last.weight, turn)
        if ahead.loss + penalty.value(guess) < last.evaluation.loss + penalty.value(last.weight):
            return guess, ahead
        return last.weight, last.evaluation

    def _better(
        self, weight: Tensor, seen: Evaluation | None, hint: Tensor, penalty: ElasticNet
    ) -> tuple[Tensor, Evaluation]:
        seen = seen or self.oracle(weight)
        there = self.oracle(hint)
        if there.loss + penalty.value(hint) < seen.loss + penalty.value(weight):
            return hint, there
        return weight, seen


def density(weight: Tensor) -> float:
    """Mean number of non-zero weights per class, of a matrix (C, S)."""
    return (weight != 0).sum().item() / len(weight)
