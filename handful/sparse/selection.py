"""Choosing n features: forward selection by the group elastic net, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from handful.errors import UserError
from handful.sparse.lbfgs import Memory
from handful.sparse.minimise import Warmth, minimise
from handful.sparse.oracle import DistributedOracle, Kernel, MemoryOracle, Oracle, full_precision
from handful.sparse.path import Record
from handful.sparse.penalty import GroupElasticNet
from handful.sparse.ranks import total
from handful.sparse.rows import Rows
from handful.sparse.standardise import ColumnStatistics, design_matrix


@dataclass
class Selection:
    """Chosen features.

    Attributes:
        features: column numbers in order of selection.
        lam: λ of the group elastic net at the end.
        method: "greedy" or "saga".
        log: one row per feature: feature, gradient (its group gradient relative to λ α when it was taken), lam,
            passes (epochs for saga) of the refit before it.

    Example:
        >>> log = [{"lam": 0.2}, {"lam": 0.1}]
        >>> Selection([4, 2], 0.1, "greedy", log).first(1)
        Selection(features=[4], lam=0.2, method='greedy', log=[{'lam': 0.2}])
    """

    features: list[int]
    lam: float
    method: str
    log: list[Record] = field(default_factory=list)

    def index(self) -> Tensor:
        """The columns as a tensor (S,) int64."""
        return torch.tensor(self.features, dtype=torch.long)

    def first(self, n_features: int) -> Selection:
        """What a selection of fewer features would have been: they join one by one.

        Raises:
            UserError: there are not so many.
        """
        if not 1 <= n_features <= len(self.features):
            raise UserError(f"n_features: {n_features} wanted of {len(self.features)} chosen ones")
        lam = self.log[n_features - 1]["lam"]
        lam = self.lam if lam is None else float(lam)
        return Selection(self.features[:n_features], lam, self.method, self.log[:n_features])


def select_greedy(
    rows: Rows,
    labels: Tensor,
    num_classes: int,
    n_features: int,
    statistics: ColumnStatistics,
    *,
    alpha: float = 0.8,
    fraction: float = 0.1,
    tolerance: float = 0.1,
    twin: float = 0.999,
    group: ProcessGroup | None = None,
    tick: Callable[[], None] | None = None,
) -> Selection:
    """Forward selection at one small, fixed λ.

    In turn, the group elastic net is solved on the features chosen so far, and the feature joins whose group
    gradient there is largest (`(1/N) ‖(P − Y)' z_j‖`). This is what the published procedure (SLDD-Model, Norrenbrock
    et al. 2022) approximates with stochastic steps; by the order in which groups enter the regularisation path
    correlated features would enter by the dozen.

    A column that all but repeats a chosen one (|correlation| ≥ `twin`) is passed over. Where no gradient exceeds λ α,
    λ is lowered by 0.7 until one does. The result depends neither on a seed nor, up to rounding, on the order of
    rows.

    Memory: N (S+1) b bytes for the chosen columns, one chunk of rows, 8 C F bytes for the gradient.
    Time: n_features products of 2·N·C·F operations, and the refits.

    Args:
        rows: raw features (N, F) of this process.
        labels: (N,) int64.
        num_classes: C.
        n_features: how many to choose.
        statistics: of all columns over all rows.
        alpha: elastic-net mixing.
        fraction: λ as a share of the smallest λ that leaves everything zero.
        tolerance: KKT residual of the refits relative to λ α; 0.1 chooses the same features as 0.01.
        twin: correlation from which on a column counts as a repetition.
        group: the processes that share the rows.
        tick: called after every feature.

    Raises:
        UserError: where there are fewer distinct columns with variance than `n_features`.
    """
    device = rows.device
    labels = labels.to(device)
    closed = torch.zeros(rows.n_features, dtype=torch.bool, device=device)
    closed[statistics.dead.to(device)] = True
    gradients = _Gradients(rows, labels, num_classes, statistics, group)
    design = design_matrix(rows, statistics, torch.empty(0, dtype=torch.long))
    oracle = _oracle(design, labels, num_classes, group)
    weight = oracle.bias_only()
    norms = gradients(design, weight, oracle.n_rows)
    steepest = norms.max().item() / max(alpha, 1e-3)
    lam = fraction * steepest
    memory = Memory(12)
    chosen: list[int] = []
    log: list[Record] = []
    passes = 0
    while True:
        norms[closed] = -1.0
        feature = int(norms.argmax())
        if norms[feature] < 0:
            raise UserError(f"n_features: {n_features} wanted, but only {len(chosen)} distinct features have variance")
        column = design_matrix(rows, statistics, torch.tensor([feature]))[:, :1]
        closed[feature] = True
        if chosen and _repeats(column, design[:, :-1], twin, group):
            continue
        while alpha > 0 and 0 < norms[feature].item() <= lam * alpha:
            lam *= 0.7
        strength = norms[feature].item() / (lam * max(alpha, 1e-3)) if lam > 0 else 0.0
        log.append({"feature": feature, "gradient": strength, "lam": lam, "passes": passes})
        chosen.append(feature)
        if tick is not None:
            tick()
        if len(chosen) == n_features:
            return Selection(chosen, lam, "greedy", log)
        design = torch.cat([design[:, :-1], column, design[:, -1:]], 1)
        weight = torch.cat([weight[:, :-1], torch.zeros_like(weight[:, :1]), weight[:, -1:]], 1)
        memory.widen()
        oracle = _oracle(design, labels, num_classes, group)
        solution = minimise(
            oracle,
            GroupElasticNet(lam, alpha),
            weight,
            tolerance * lam * max(alpha, 1e-3),
            warmth=Warmth(memory),
            max_passes=400,
        )
        weight, passes = solution.weight, solution.passes
        norms = gradients(design, weight, oracle.n_rows)


def _oracle(design: Tensor, labels: Tensor, num_classes: int, group: ProcessGroup | None) -> Oracle:
    local = MemoryOracle(design, labels, num_classes)
    return local if group is None else DistributedOracle(local, group)


def _repeats(column: Tensor, chosen: Tensor, twin: float, group: ProcessGroup | None) -> bool:
    # standardised columns: their mean product is the correlation
    products = total(torch.cat([(column.t() @ chosen)[0], column.new_tensor([float(len(column))])]).double(), group)
    return bool((products[:-1].abs() / products[-1]).max() >= twin)


class _Gradients:
    """Norms of the group gradients of all F columns at a model that lives on few of them."""

    def __init__(
        self,
        rows: Rows,
        labels: Tensor,
        num_classes: int,
        statistics: ColumnStatistics,
        group: ProcessGroup | None,
    ) -> None:
        self.rows, self.labels, self.num_classes, self.group = rows, labels, num_classes, group
        self.mean = statistics.mean.to(rows.device, rows.dtype)
        self.scale = statistics.scale.to(rows.device)

    def __call__(self, design: Tensor, weight: Tensor, n_rows: int) -> Tensor:
        """(F,) float64 at `weight` (C, S+1) on `design` (n, S+1), one pass over all columns."""
        shape = (self.num_classes, self.rows.n_features)
        gradient = torch.zeros(shape, dtype=torch.float64, device=self.rows.device)
        part = torch.empty(shape, dtype=self.rows.dtype, device=self.rows.device)
        kernel: Kernel | None = None
        centred = torch.empty(0, dtype=self.rows.dtype, device=self.rows.device)
        with full_precision():
            # long chunks: the C × F sum of each is added up in float64
            wanted = max(512, self.rows.chunk_rows)
            for start, chunk in self.rows.chunks(wanted):
                if kernel is None:
                    longest = self.rows.longest_chunk(wanted)
                    kernel = Kernel(self.num_classes, design.shape[1], design.dtype, design.device, longest, longest)
                    kernel.begin(weight, curvature=False)
                stop = start + len(chunk)
                residuals = kernel.residuals(design[start:stop], self.labels[start:stop])
                if len(centred) != len(chunk):
                    centred = torch.empty_like(chunk)
                gradient += torch.mm(residuals, torch.sub(chunk, self.mean, out=centred), out=part)
        return total(gradient, self.group).div_(self.scale * n_rows).norm(dim=0)
