"""Finding the densest grid point within a wanted density while solving few λ."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from handful.sparse.oracle import MemoryOracle
from handful.sparse.path import ExactPath, PathPoint

Tick = Callable[[PathPoint], None]


def bisect(path: ExactPath, wanted: float, *, first_stride: int = 8, tick: Tick | None = None) -> list[PathPoint]:
    """Gallops along the grid, then halves the bracket; takes density to grow along the path.

    Args:
        path: solver over the grid.
        wanted: largest mean number of non-zero weights per class.
        first_stride: grid steps of the gallop.
        tick: called with every point solved.

    Returns:
        The points solved, in order of falling λ; the last one with density ≤ `wanted` is the answer.
    """
    points: dict[int, PathPoint] = {}

    def fits(index: int) -> bool:
        points[index] = path.solve(index)
        if tick is not None:
            tick(points[index])
        return points[index].density <= wanted

    last = len(path.grid) - 1
    low, high = 0, last + 1
    while low < last and high > last:
        index = min(low + first_stride, last)
        if fits(index):
            low = index
        else:
            high = index
    while high - low > 1:
        middle = (low + high) // 2
        if middle > last:
            break
        if fits(middle):
            low = middle
        else:
            high = middle
    if low not in points:
        fits(low)
    return [points[index] for index in sorted(points)]


def coarse_to_fine(
    oracle: MemoryOracle, path: ExactPath, wanted: float, *, coarse_rows: int | None = None, tick: Tick | None = None
) -> list[PathPoint]:
    """The path on a class-stratified sample of the rows, then only the bracketing λ on all of them.

    For many rows: a pass over the sample costs a fraction, and it leaves weights and curvature pairs from which
    the full problem needs few passes. The answer is that of the full problem.

    Args:
        oracle: the loss on all rows.
        path: solver over the grid on `oracle`.
        wanted: largest mean number of non-zero weights per class.
        coarse_rows: rows of the sample; the larger of 60 per class and a sixteenth of all where None.
        tick: called with every point solved, coarse or full.

    Returns:
        The points solved on all rows, in order of falling λ; the last with density ≤ `wanted` is the answer.
    """
    n = oracle.n_rows
    coarse_rows = min(n, coarse_rows or max(60 * oracle.num_classes, n // 16))
    sample = stratified_sample(oracle.labels, coarse_rows)
    small = MemoryOracle(oracle.design[sample], oracle.labels[sample], oracle.num_classes)
    coarse = ExactPath(small, path.grid, path.alpha, tolerance=path.tolerance, floor=path.floor)
    found, weights = 0, {}
    over = 0
    for index in range(len(path.grid)):
        point = coarse.solve(index)
        weights[index] = coarse.solved[index].weight
        coarse.solved.pop(index - 2, None)
        weights.pop(index - 6, None)
        if tick is not None:
            tick(point)
        if point.density <= wanted:
            found, over = index, 0
        else:
            over += 1
        if over >= 4:
            break
    path.warmth.memory = coarse.warmth.memory
    points: dict[int, PathPoint] = {}

    def fits(index: int, weight: Tensor | None = None) -> bool:
        points[index] = path.solve(index, weight=weight)
        if tick is not None:
            tick(points[index])
        return points[index].density <= wanted

    index = found
    # the grid begins where nothing is left: its first point starts, and ends, without any weight
    inside = fits(index, weights[index] if index else None)
    while inside and index + 1 < len(path.grid):
        inside = fits(index + 1)
        index += 1
    while not inside and index > 0 and (index - 1) not in points:
        index -= 1
        inside = fits(index, path.solved[index + 1].weight if index else None)
    return [points[index] for index in sorted(points)]


def stratified_sample(labels: Tensor, n: int) -> Tensor:
    """`n` row numbers, ascending, each class in proportion, no randomness: every k-th row in order of class."""
    by_class = torch.argsort(labels, stable=True)
    places = torch.linspace(0, len(labels) - 1, n, dtype=torch.float64, device=labels.device).long()
    return by_class[places].sort().values
