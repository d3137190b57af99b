"""The published feature selection, iterate by iterate, without its waste.

Reference: the feature selection of the SLDD-Model (Norrenbrock, Rudolph & Rosenhahn, "Take 5: Interpretable Image
Classification with a Handful of Features", 2022). Proximal SAGA with an operator that keeps the chosen features and at
most one more, the largest; a phase adds one feature. Its quirks change which features come out and are kept: λ comes
from the raw features though the solver sees standardised ones; the step counts all N rows though it visits nine tenths;
the stopping rule adds absolute weights though the operator shrinks column norms; chosen columns have no positivity
check.

Waste left out: no batch × C × F tensor; logits from the at most S + 1 columns that carry weight; and while provably
no other column can overtake the candidate, only those columns are stepped; the rest of the running average is rebuilt
from the table of gradients at the end of the phase.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from handful.sparse.oracle import full_precision
from handful.sparse.path import Record
from handful.sparse.rows import Rows
from handful.sparse.saga import ShuffledRows, SlowProgress, reference_grid, residuals
from handful.sparse.selection import Selection
from handful.sparse.standardise import ColumnStatistics

#: the reference's floor of the standard deviation
REFERENCE_STD = 1e-5


def select_saga(
    rows: Rows,
    labels: Tensor,
    num_classes: int,
    n_features: int,
    statistics: ColumnStatistics,
    *,
    alpha: float = 0.8,
    fraction: float = 0.1,
    seed: int = 0,
    index: Tensor | None = None,
    step: float = 0.1,
    batch: int = 256,
    max_epochs: int = 2000,
    patience: int = 3,
    tol: float = 1e-4,
    tick: Callable[[], None] | None = None,
) -> Selection:
    """The published procedure.

    The features must be, or fit, in memory. Memory beside them: 4·n·C bytes for the table of gradients, 8 C F bytes
    for the average and a step, one batch of rows.

    Args:
        rows: raw features (N, F).
        labels: (N,) int64.
        num_classes: C.
        n_features: how many to choose.
        statistics: of all columns over all rows.
        alpha: elastic-net mixing.
        fraction: λ as a share of the largest sensible one of the raw features.
        seed: of the order of rows.
        index: (n,) the rows to visit, all where None. The step's bookkeeping counts all N, as the reference's does.
        step: step size.
        batch: rows per step.
        max_epochs: a λ is left after so many.
        patience: epochs without progress before a λ is left.
        tol: what counts as progress.
        tick: called after every feature.
    """
    whole = rows.in_memory
    if whole is None:
        whole = torch.cat([chunk for _, chunk in rows.chunks()])
    grid = reference_grid(_raw_lambda_max(rows, labels, num_classes) / max(1e-3, alpha), 100, 1e-3, True)
    run = _Run(whole, labels.to(whole.device), num_classes, statistics, index, step, batch, rows.chunk_rows)
    order = ShuffledRows(run.n, torch.Generator().manual_seed(seed))
    chosen: list[int] = []
    log: list[Record] = []
    lam = 0.0
    while len(chosen) < n_features:
        for lam in [fraction * value for value in grid]:
            slow = SlowProgress(tol, patience)
            threshold, shrink = step * lam * alpha, 1 + step * lam * (1 - alpha)
            run.begin()
            epochs = 0
            while epochs < max_epochs:
                epochs += 1
                loss = 0.0
                with full_precision():
                    for taken in order.order().to(whole.device).split(batch):
                        loss += run.advance(taken, threshold, shrink)
                w = run.weight
                size = lam * alpha * w.abs().sum().item() + 0.5 * lam * (1 - alpha) * w.square().sum().item()
                if slow.stop(loss / run.n_all + size):
                    break
            fresh = run.end()
            if fresh:
                # candidates are admitted one at a time
                chosen += fresh
                log.append({"feature": fresh[0], "gradient": None, "lam": lam, "passes": epochs})
                if tick is not None:
                    tick()
                break
    return Selection(chosen, lam, "saga", log)


def _raw_lambda_max(rows: Rows, labels: Tensor, num_classes: int) -> float:
    """max_j ‖X_j' (Y − ȳ)‖ / N on the raw features of all rows."""
    labels = labels.to(rows.device)
    shares = torch.bincount(labels, minlength=num_classes).double() / len(labels)
    sums = torch.zeros(num_classes, rows.n_features, dtype=torch.float64, device=rows.device)
    everything = torch.zeros(rows.n_features, dtype=torch.float64, device=rows.device)
    for start, chunk in rows.chunks():
        one_hot = torch.nn.functional.one_hot(labels[start : start + len(chunk)], num_classes).to(chunk.dtype)
        sums += one_hot.t() @ chunk
        everything += chunk.sum(0, dtype=torch.float64)
    return ((sums - shares[:, None] * everything).norm(dim=0).max() / len(labels)).item()


class _Run:
    """The state of the procedure: weights on the active columns, the table of gradients and its average.

    Active columns are the chosen ones and, behind them, the candidate of the last step.
    """

    def __init__(
        self,
        whole: Tensor,
        labels: Tensor,
        num_classes: int,
        statistics: ColumnStatistics,
        index: Tensor | None,
        step: float,
        batch: int,
        chunk: int,
    ) -> None:
        device, dtype = whole.device, whole.dtype
        self.whole, self.labels, self.step, self.chunk = whole, labels, step, chunk
        self.index = torch.arange(len(whole), device=device) if index is None else index.to(device)
        self.n, self.n_all = len(self.index), len(whole)
        self.mean = statistics.mean.to(device, dtype)
        self.scale = statistics.std.to(device, dtype).clamp(min=REFERENCE_STD)
        self.table = torch.zeros(self.n, num_classes, dtype=dtype, device=device)
        self.average = torch.zeros(num_classes, whole.shape[1], dtype=dtype, device=device)
        self.bias = torch.zeros(num_classes, dtype=dtype, device=device)
        self.bias_average = torch.zeros_like(self.bias)
        self.chosen: list[int] = []
        self.mask = torch.zeros(whole.shape[1], dtype=torch.bool, device=device)
        self.active: list[int] = []
        self.weight = torch.zeros(num_classes, 0, dtype=dtype, device=device)
        self._turn = torch.empty_like(self.average)
        #: largest standardised feature of every row, for the bound
        self.reach = torch.empty(self.n, dtype=dtype, device=device)
        for low in range(0, self.n, chunk):
            part = self._rows(self.index[low : low + chunk])
            self.reach[low : low + chunk] = part.abs().amax(1)
        self.locked = False
        self.stale = False

    def begin(self) -> None:
        """Starts a phase."""
        if self.stale:
            self._rebuild()
        self.locked = False
        self._activate(self.active)

    def end(self) -> list[int]:
        """Ends a phase; the features that joined, at most one."""
        self.stale = self.stale or self.locked
        used = [c for c, norm in zip(self.active, self.weight.norm(dim=0).tolist(), strict=True) if norm > 0]
        fresh = [column for column in used if column not in self.chosen]
        self.chosen += fresh
        self.mask[fresh] = True
        return fresh

    def advance(self, taken: Tensor, threshold: float, shrink: float) -> float:
        """A step on the rows `taken` (B,); their summed loss."""
        size = len(taken)
        own = self.labels[self.index[taken], None]
        x = self.columns[taken]
        residual, loss = residuals(torch.addmm(self.bias, x, self.weight.t()), own)
        change = residual - self.table[taken]
        if self.locked and not self._step_active(x, change, taken, threshold, shrink):
            self._rebuild()
            self.locked = False
        if not self.locked:
            self._step_all(change, taken, threshold, shrink)
        self.table[taken] = residual
        turn = change.mean(0)
        self.bias = self.bias - self.step * (turn + self.bias_average)
        self.bias_average = self.bias_average + turn * (size / self.n_all)
        return loss * size

    def _step_all(self, change: Tensor, taken: Tensor, threshold: float, shrink: float) -> None:
        size = len(taken)
        x = self._rows(self.index[taken])
        torch.mm(change.t(), x, out=self._turn).div_(size)
        moved = torch.add(self._turn, self.average).mul_(-self.step)
        if self.active:
            moved[:, self.active] += self.weight
        norms = moved.norm(dim=0).add_(1e-6)
        candidate = int(norms.masked_fill(self.mask, norms.min().item()).argmax())
        enters = norms[candidate].item() > threshold and not bool(self.mask[candidate])
        now = [*self.chosen, candidate] if enters else list(self.chosen)
        same = now == self.active
        kept = moved[:, now]
        self.weight = (kept - threshold * kept / norms[now]) / shrink
        self.average.add_(self._turn, alpha=size / self.n_all)
        if not same:
            self._activate(now)
        elif enters:
            self._try_lock(norms[candidate].item(), change, taken)

    def _try_lock(self, norm: float, change: Tensor, taken: Tensor) -> None:
        sizes = self.average.norm(dim=0)
        sizes[self.active] = 0.0
        self.rival = sizes.max().item()
        self.drift = 0.0
        # with room to spare, or the lock would break at the next step
        if norm > 2 * self.step * (self.rival + self._bound(change, taken)):
            self.locked = True
            self.active_average = self.average[:, self.active]

    def _step_active(
        self, x: Tensor, change: Tensor, taken: Tensor, threshold: float, shrink: float
    ) -> bool:
        size = len(taken)
        turn = (change.t() @ x) / size
        moved = self.weight - self.step * (turn + self.active_average)
        norms = moved.norm(dim=0) + 1e-6
        bound = self._bound(change, taken)
        ahead = norms[-1].item()
        if self.step * (self.rival + self.drift + bound) + 1e-6 >= ahead or ahead <= threshold:
            return False
        self.weight = (moved - threshold * moved / norms) / shrink
        self.active_average.add_(turn, alpha=size / self.n_all)
        self.drift += bound * size / self.n_all
        return True

    def _bound(self, change: Tensor, taken: Tensor) -> float:
        """No column's mean gradient change over the batch has a larger norm."""
        return ((change.norm(dim=1) * self.reach[taken]).sum() / len(taken)).item()

    def _rebuild(self) -> None:
        """The running average over all columns, from the table."""
        self.average.zero_()
        for low in range(0, self.n, self.chunk):
            part = self._rows(self.index[low : low + self.chunk])
            self.average.addmm_(self.table[low : low + self.chunk].t(), part)
        self.average /= self.n_all
        self.stale = False

    def _activate(self, columns: Sequence[int]) -> None:
        self.active = list(columns)
        raw = self.whole[:, self.active][self.index]
        self.columns = (raw - self.mean[self.active]) / self.scale[self.active]

    def _rows(self, index: Tensor) -> Tensor:
        return self.whole.index_select(0, index).sub_(self.mean).div_(self.scale)
