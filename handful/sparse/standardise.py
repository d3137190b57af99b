"""Column means and standard deviations in two passes, and the standardised design matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from handful.errors import UserError
from handful.networks.heads import MIN_STD
from handful.sparse.checks import check_finite
from handful.sparse.ranks import total
from handful.sparse.rows import Features, Rows


@dataclass(frozen=True)
class ColumnStatistics:
    """Statistics of the F feature columns over all rows.

    Attributes:
        mean: (F,) float64.
        std: (F,) float64, population standard deviation (divided by N), not clamped.
        dead: indices (D,) of columns without variance, see `never_vary`. They standardise to zero and are never
            selected.
        n_rows: N over all processes.

    Example:
        >>> column_statistics(torch.tensor([[1.0, 2.0], [3.0, 2.0]])).dead.tolist()
        [1]
    """

    mean: Tensor
    std: Tensor
    dead: Tensor
    n_rows: int

    @property
    def scale(self) -> Tensor:
        """What standardising divides by, (F,) float64: std clamped at `MIN_STD`."""
        return self.std.clamp(min=MIN_STD)


def never_vary(mean: Tensor, std: Tensor) -> Tensor:
    """Which columns have no variance `(F,)`.

    A standard deviation below `MIN_STD`, or below the float32 resolution of the column's own mean.

    Args:
        mean: (F,).
        std: (F,) population standard deviation.

    Example:
        >>> never_vary(torch.tensor([1.0, 9.0]), torch.tensor([0.1, 1e-6])).tolist()
        [False, True]
    """
    return std < torch.maximum(torch.full_like(std, MIN_STD), 1e-6 * mean.abs())


def column_statistics(
    features: Features | Rows, *, group: ProcessGroup | None = None, device: torch.device | str | None = None
) -> ColumnStatistics:
    """Mean and population standard deviation of every column, in two passes with float64 sums.

    Args:
        features: (N, F) or chunks of it, see `Rows`; under `group` the rows of this process.
        group: the processes that share the rows, None for one process.
        device: where to compute.

    Raises:
        UserError: where there is no row.

    Example:
        >>> found = column_statistics(torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
        >>> found.mean.tolist(), found.std.tolist()
        ([2.0, 2.0], [1.0, 0.0])
    """
    rows = features if isinstance(features, Rows) else Rows(features, device=device)
    sums = torch.zeros(rows.n_features + 1, dtype=torch.float64, device=rows.device)
    sums[-1] = rows.n_rows
    for _, chunk in rows.chunks():
        sums[:-1] += chunk.sum(0, dtype=torch.float64)
    sums = total(sums, group)
    count = sums[-1].item()
    if count == 0:
        raise UserError("features: no rows")
    mean = sums[:-1] / count
    # deviations from a centre in the products' precision, corrected for what that centre is off the mean
    centre = mean.to(rows.dtype)
    squares = torch.zeros_like(mean)
    for _, chunk in rows.chunks():
        deviation = chunk - centre
        squares += deviation.square_().sum(0, dtype=torch.float64)
    variance = total(squares, group) / count - (mean - centre.double()).square()
    std = variance.clamp(min=0).sqrt()
    if not bool(torch.isfinite(std).all()):
        check_finite(rows)
        column = int((~torch.isfinite(std)).nonzero()[0])
        raise UserError(f"features: the values of feature {column} are too large to be squared in {rows.dtype}")
    dead = never_vary(mean, std).nonzero()[:, 0]
    return ColumnStatistics(mean, std, dead, int(count))


def design_matrix(
    rows: Rows, statistics: ColumnStatistics, columns: Tensor | None = None, index: Tensor | None = None
) -> Tensor:
    """Standardised features with a last column of ones for the bias: (n, S + 1).

    Args:
        rows: raw features (N, F).
        statistics: of the F columns.
        columns: (S,) the columns to keep, all where None.
        index: (n,) the rows to keep, in ascending order, all where None.
    """
    mean, scale = statistics.mean.to(rows.dtype), statistics.scale.to(rows.dtype)
    if columns is not None:
        columns = columns.to(rows.device)
        mean, scale = mean[columns], scale[columns]
    keep = None
    if index is not None:
        keep = torch.zeros(rows.n_rows, dtype=torch.bool, device=rows.device)
        keep[index.to(rows.device)] = True
    n = rows.n_rows if index is None else len(index)
    out = torch.ones(n, len(mean) + 1, dtype=rows.dtype, device=rows.device)
    low = 0
    for start, chunk in rows.chunks():
        if keep is not None:
            chunk = chunk[keep[start : start + len(chunk)]]
        if columns is not None:
            chunk = chunk.index_select(1, columns)
        out[low : low + len(chunk), :-1] = (chunk - mean) / scale
        low += len(chunk)
    return out
