"""The oracle: mean cross-entropy of a linear classifier and its gradient, one pass over the rows a call.

Every solver of this folder sees the data through an oracle alone, so that the same code runs on features in memory
(`MemoryOracle`), on features read from disk (`StreamedOracle`) and on rows spread over processes
(`DistributedOracle`).

Products run in the features' precision, at full float32 precision whatever the process has allowed elsewhere; the
loss and the gradient are summed in float64. A pass costs 4·N·C·(F+1) floating-point operations and a softmax, and
holds chunks of rows only: the matrix N × C never exists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from handful.sparse.ranks import total
from handful.sparse.rows import Rows
from handful.sparse.standardise import ColumnStatistics


class Evaluation(NamedTuple):
    """What one pass returns.

    Attributes:
        loss: mean cross-entropy in nats.
        gradient: (C, F+1) float64, the bias in the last column.
        curvature: (C, F+1) float64 diagonal of the Hessian, mean p(1 − p) z², where asked for.
    """

    loss: float
    gradient: Tensor
    curvature: Tensor | None = None


class Oracle(ABC):
    """Mean cross-entropy of `softmax(Z W' + b)` over N rows, for weights (C, F+1) with the bias as last column.

    Attributes:
        n_rows: N, over all processes.
        n_features: F.
        num_classes: C.
        class_shares: (C,) float64, the share of each class among the rows.
        passes: number of passes over the rows.
        noise: rounding error that the loss may carry, relative to the larger of it and 1 nat.
    """

    n_rows: int
    n_features: int
    num_classes: int
    class_shares: Tensor
    passes: int
    noise: float
    device: torch.device

    @abstractmethod
    def sums(self, weight: Tensor, curvature: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Loss (), gradient and curvature (C, F+1) summed over the rows of this process, float64."""

    @abstractmethod
    def block_sums(self, weight: Tensor) -> Tensor:
        """`blocks` (C, F+1, F+1), summed over the rows of this process."""

    def blocks(self, weight: Tensor) -> Tensor:
        """(C, F+1, F+1): of every class mean p(1 − p) z z' at `weight`, the Hessian without what couples classes.

        In the features' precision. Counts as one pass; takes about as long as (F+1)/4 passes, with few classes up
        to twice that.
        """
        self.passes += 1
        return self.block_sums(weight).div_(self.n_rows)

    def __call__(self, weight: Tensor, curvature: bool = False) -> Evaluation:
        """Mean loss and gradient at `weight` (C, F+1) float64."""
        self.passes += 1
        loss, gradient, diagonal = self.sums(weight, curvature)
        n = self.n_rows
        return Evaluation(loss.item() / n, gradient / n, None if diagonal is None else diagonal / n)

    def bias_only(self) -> Tensor:
        """The solution without any feature: zero weights, centred log class shares as bias; (C, F+1) float64."""
        weight = torch.zeros(self.num_classes, self.n_features + 1, dtype=torch.float64, device=self.device)
        bias = self.class_shares.log()
        weight[:, -1] = bias - bias.mean()
        return weight


class ChunkedOracle(Oracle):
    """Rows of this process, chunk by chunk through one kernel."""

    _kernel: Kernel

    @abstractmethod
    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Standardised rows with ones (r, F+1) and their labels (r,), chunk by chunk."""

    def sums(self, weight: Tensor, curvature: bool) -> tuple[Tensor, Tensor, Tensor | None]:  # noqa: D102
        self._kernel.begin(weight, curvature)
        with full_precision():
            for design, labels in self.chunks():
                self._kernel.add(design, labels)
        return self._kernel.end()

    def block_sums(self, weight: Tensor) -> Tensor:  # noqa: D102
        with full_precision():
            return self._kernel.blocks(weight, (design for design, _ in self.chunks()))


class MemoryOracle(ChunkedOracle):
    """Rows in memory.

    Memory: the design matrix N (F+1) b bytes that is handed in (b = 4 in float32), a buffer of
    chunk × C × b bytes (sized for the second-level cache on a CPU), and 16 C (F+1) bytes of sums.

    Args:
        design: (N, F+1) standardised features with a last column of ones (`design_matrix`).
        labels: (N,) int64 in [0, C).
        num_classes: C.
        chunk_rows: rows handled at a time.
    """

    def __init__(self, design: Tensor, labels: Tensor, num_classes: int, *, chunk_rows: int | None = None) -> None:
        self.design, self.labels = design, labels.to(design.device)
        self.n_rows, self.n_features, self.num_classes = len(design), design.shape[1] - 1, num_classes
        self.device = design.device
        self.passes = 0
        self.noise = noise_of(design.dtype)
        counts = torch.bincount(self.labels, minlength=num_classes).double()
        self.class_shares = counts / max(1, self.n_rows)
        self._kernel = Kernel(num_classes, self.n_features + 1, design.dtype, self.device, chunk_rows, self.n_rows)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: D102
        for low in range(0, self.n_rows, self._kernel.rows):
            high = low + self._kernel.rows
            yield self.design[low:high], self.labels[low:high]


class StreamedOracle(ChunkedOracle):
    """Rows read chunk by chunk from wherever `Rows` finds them, standardised on the fly.

    Memory: one chunk of rows, the buffers of the kernel, and 16 C (F+1) bytes of sums; a pass reads the rows once.

    Args:
        rows: raw features.
        statistics: of their columns.
        labels: (N,) int64 in [0, C).
        num_classes: C.
        columns: (S,) the columns to use, all where None.
    """

    def __init__(
        self,
        rows: Rows,
        statistics: ColumnStatistics,
        labels: Tensor,
        num_classes: int,
        *,
        columns: Tensor | None = None,
    ) -> None:
        self.rows, self.labels, self.device = rows, labels.to(rows.device), rows.device
        self._columns = None if columns is None else columns.to(rows.device)
        mean, scale = statistics.mean.to(rows.device), statistics.scale.to(rows.device)
        if self._columns is not None:
            mean, scale = mean[self._columns], scale[self._columns]
        self._mean, self._scale = mean.to(rows.dtype), scale.to(rows.dtype)
        self.n_rows, self.n_features, self.num_classes = rows.n_rows, len(mean), num_classes
        self.passes = 0
        self.noise = noise_of(rows.dtype)
        self.class_shares = torch.bincount(self.labels, minlength=num_classes).double() / max(1, self.n_rows)
        self._kernel = Kernel(num_classes, self.n_features + 1, rows.dtype, self.device, None, self.n_rows)
        self._block = torch.ones(self._kernel.rows, self.n_features + 1, dtype=rows.dtype, device=self.device)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """As `ChunkedOracle.chunks`; a chunk is overwritten by the next."""
        step = self._kernel.rows
        for start, chunk in self.rows.chunks():
            if self._columns is not None:
                chunk = chunk.index_select(1, self._columns)
            for low in range(0, len(chunk), step):
                part = chunk[low : low + step]
                block = self._block[: len(part)]
                torch.sub(part, self._mean, out=block[:, :-1])
                block[:, :-1] /= self._scale
                yield block, self.labels[start + low : start + low + len(part)]


class DistributedOracle(Oracle):
    """Rows spread over processes: each sums over its own, one all-reduce of 8 (1 + C (F+1)) bytes per pass.

    Blocks of the Hessian are reduced the same way, b C (F+1)² bytes with numbers of b bytes.

    All processes then run the same solver on the same numbers and stay identical to the last bit, so nothing is
    ever broadcast.

    Args:
        local: the oracle over this process's rows; it may have none.
        group: the processes.
    """

    def __init__(self, local: Oracle, group: ProcessGroup) -> None:
        self.local, self.group = local, group
        self.n_features, self.num_classes, self.device = local.n_features, local.num_classes, local.device
        self.noise = local.noise
        self.passes = 0
        counts = total(local.class_shares * local.n_rows, group)
        self.n_rows = round(counts.sum().item())
        self.class_shares = counts / self.n_rows

    def sums(self, weight: Tensor, curvature: bool) -> tuple[Tensor, Tensor, Tensor | None]:  # noqa: D102
        loss, gradient, diagonal = self.local.sums(weight, curvature)
        parts = [loss.reshape(1), gradient.reshape(-1)]
        if diagonal is not None:
            parts.append(diagonal.reshape(-1))
        flat = total(torch.cat(parts), self.group)
        size = gradient.numel()
        gradient = flat[1 : 1 + size].reshape_as(gradient)
        return flat[0], gradient, None if diagonal is None else flat[1 + size :].reshape_as(gradient)

    def block_sums(self, weight: Tensor) -> Tensor:  # noqa: D102
        return total(self.local.block_sums(weight), self.group)


class Kernel:
    """Adds up loss, gradient and curvature over chunks of rows, in buffers that are allocated once.

    Chunks lie class by row: the softmax then runs along memory however few classes there are. Sums lie with their
    longer side along memory, as the product that adds to them is much faster that way round.
    """

    def __init__(
        self,
        num_classes: int,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
        rows: int | None,
        n_rows: int,
    ) -> None:
        if rows is None:
            # the class × chunk buffer within a CPU's second-level cache; on a GPU as much as keeps it busy
            rows = max(128, 200_000 // num_classes) if device.type == "cpu" else max(1024, (1 << 27) // num_classes)
        self.rows = max(1, min(rows, n_rows))
        self._buffer = torch.empty(num_classes * self.rows, dtype=dtype, device=device)
        self._num_classes = num_classes
        self._by_class = num_classes <= width
        shape = (num_classes, width) if self._by_class else (width, num_classes)
        self._part = torch.empty(shape, dtype=dtype, device=device)
        self._minus = torch.full((1, self.rows), -1.0, dtype=dtype, device=device)

    def begin(self, weight: Tensor, curvature: bool) -> None:
        """Starts the sums at `weight` (C, width) float64."""
        self._weight = weight.to(self._part.dtype)
        self._loss = torch.zeros((), dtype=torch.float64, device=weight.device)
        self._gradient = torch.zeros(self._part.shape, dtype=torch.float64, device=weight.device)
        self._diagonal = torch.zeros_like(self._gradient) if curvature else None

    def residuals(self, design: Tensor, labels: Tensor) -> Tensor:
        """Softmax minus one-hot labels (C, r) of a chunk, in a buffer that the next call overwrites."""
        shares = self._logits(design)
        label = labels[None]
        own = shares.gather(0, label)
        size = shares.exp_().sum(0)
        self._loss += (size.log() - own).sum(dtype=torch.float64)
        shares *= size.reciprocal_()
        if self._diagonal is not None:
            self._diagonal += self._product(shares - shares.square(), design.square())
        return shares.scatter_add_(0, label, self._minus[:, : len(design)])

    def add(self, design: Tensor, labels: Tensor) -> None:
        """Adds a chunk: standardised rows with ones (r, width), labels (r,)."""
        self._gradient += self._product(self.residuals(design, labels), design)

    def blocks(self, weight: Tensor, chunks: Iterable[Tensor]) -> Tensor:
        """Sums of p(1 − p) z z' (C, width, width) over chunks (r, width) of rows.

        Many classes share the products of all pairs of columns; for few the products are not worth their memory
        traffic, and every class weighs the columns itself.
        """
        self._weight = weight.to(self._part.dtype)
        if 2 * self._num_classes < weight.shape[1]:
            return self._blocks_by_class(weight.shape[1], chunks)
        return self._blocks_by_pair(weight.shape[1], chunks)

    def _blocks_by_class(self, width: int, chunks: Iterable[Tensor]) -> Tensor:
        out = self._part.new_zeros(self._num_classes, width, width)
        buffer = self._part.new_empty(width * self.rows)
        for design in chunks:
            columns = design.t().contiguous()
            weighed = buffer[: columns.numel()].view_as(columns)
            for block, share in zip(out, self._variances(design), strict=True):
                block.addmm_(torch.mul(columns, share, out=weighed), design)
        return out

    def _blocks_by_pair(self, width: int, chunks: Iterable[Tensor]) -> Tensor:
        row, column = torch.triu_indices(width, width, device=self._part.device)
        packed = self._part.new_zeros(self._num_classes, len(row))
        # no more rows at a time than keep the pairs in the cache as well
        step = max(1, min(self.rows, self._buffer.numel() // len(row)))
        buffer = self._part.new_empty(len(row) * step)
        for chunk in chunks:
            for design in chunk.split(step):
                columns = design.t().contiguous()
                pairs = buffer[: len(row) * len(design)].view(len(row), len(design))
                low = 0
                for first in range(width):
                    high = low + width - first
                    torch.mul(columns[first:], columns[first], out=pairs[low:high])
                    low = high
                packed.addmm_(self._variances(design), pairs.t())
        out = packed.new_empty(self._num_classes, width, width)
        out[:, row, column] = packed
        out[:, column, row] = packed
        return out

    def _variances(self, design: Tensor) -> Tensor:
        """p(1 − p) (C, r) of a chunk, in a buffer that the next call overwrites."""
        shares = self._logits(design).exp_()
        shares /= shares.sum(0)
        return shares.sub_(shares.square())

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        """`left` (C, r) times `right` (r, width), as the sums lie; the next call overwrites it."""
        if self._by_class:
            return torch.mm(left, right, out=self._part)
        return torch.mm(right.t(), left.t(), out=self._part)

    def _logits(self, design: Tensor) -> Tensor:
        """(C, r), the largest of every row taken off, in a buffer that the next call overwrites."""
        logits = self._buffer[: self._num_classes * len(design)].view(self._num_classes, len(design))
        torch.mm(self._weight, design.t(), out=logits)
        return logits.sub_(logits.amax(0))

    def end(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Loss (), gradient and curvature (C, width)."""
        gradient, diagonal = self._gradient, self._diagonal
        if not self._by_class:
            gradient, diagonal = gradient.t().contiguous(), None if diagonal is None else diagonal.t().contiguous()
        return self._loss, gradient, diagonal


def noise_of(dtype: torch.dtype) -> float:
    """Rounding error of a mean loss of about 1 nat computed in `dtype` and summed in float64.

    Weights and logits are rounded, so it does not shrink with the loss. In float32 measured as 4e-8 to 1.5e-7.
    """
    return 1e-13 if dtype == torch.float64 else 2e-7


@contextmanager
def full_precision() -> Iterator[None]:
    """Matrix products at their full precision, whatever is allowed outside (TF32, bfloat16, autocast)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
