"""The sparse head: selection, path, choice and cut in one call on arrays of raw features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from handful.conversions import as_float, as_labels, check_real, check_whole
from handful.errors import UserError
from handful.networks.discrete_heads import TernaryHead, ternary_weights
from handful.networks.heads import SparseHead
from handful.sparse.checks import check_alpha, check_labels, check_path_options, check_seed
from handful.sparse.cut import CUTS, densest_within, fit_bias, kept, refit
from handful.sparse.features import select_features
from handful.sparse.fit_path import elastic_net_path
from handful.sparse.oracle import DistributedOracle, MemoryOracle, Oracle, StreamedOracle, full_precision
from handful.sparse.path import PathPoint, RegularisationPath
from handful.sparse.ranks import total
from handful.sparse.rows import Features, Rows
from handful.sparse.selection import Selection
from handful.sparse.split import hold_out
from handful.sparse.standardise import ColumnStatistics, column_statistics, design_matrix

CHOICES = ("density", "validation")


@dataclass(frozen=True)
class SparseRecord:
    """How a sparse layer came about, in plain values.

    Attributes:
        selection: features, method, lam, log.
        path: one row per point.
        layer: what was chosen and cut, accuracies, non-zero weights of every class.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> labels = torch.arange(60) % 3
        >>> features = torch.rand(60, 5, generator=generator)
        >>> features[:, :3] += 2 * torch.eye(3)[labels]
        >>> head, record = fit_sparse_layer(features, labels, n_features=3, features_per_class=1, n_lambdas=20)
        >>> record.selection["method"], record.layer["n_features"]
        ('greedy', 3)
    """

    selection: dict[str, Any]
    path: list[dict[str, Any]]
    layer: dict[str, Any]


def fit_sparse_layer(
    features: Features,
    labels: Tensor,
    n_features: int = 50,
    features_per_class: int = 5,
    *,
    solver: str = "exact",
    selection: str | Selection = "greedy",
    cut: str = "average",
    choose: str = "density",
    search: str = "path",
    alpha: float = 0.99,
    n_lambdas: int = 100,
    epsilon: float = 1e-3,
    tolerance: float = 1e-2,
    num_classes: int | None = None,
    val: tuple[Tensor, Tensor] | None = None,
    val_fraction: float = 0.1,
    stream: bool = False,
    seed: int = 0,
    group: ProcessGroup | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> tuple[SparseHead, SparseRecord]:
    """Features of the training images → a head that decides with `n_features`, `features_per_class` per class.

    The steps of the SLDD-Model (Norrenbrock et al., "Take 5", 2022): choose features on all rows, solve the
    regularisation path on them, take a point of it, cut its weights.

    Args:
        features: raw (N, F), in memory or on disk (`Rows`); under `group` the rows of this process.
        labels: (N,) integers in [0, C).
        n_features: how many features may decide, S.
        features_per_class: wanted mean number of non-zero weights per class, k.
        solver: "exact", "saga" (the reference's iterates, not converged) or "glm_saga" (the package).
        selection: "greedy", "saga" (the published procedure), or features that are chosen already.
        cut: "average" keeps the C·k largest weights overall (as published), "per_class" the k largest of every
            class, "refit" those of "average", fitted again, "ternary" those of "average" in the last point of the
            path with a penalty, as ± their mean size (Q-SENN), with the bias fitted to them.
        choose: "density" takes the densest point with at most 2k weights per class (as published), "validation" the
            point whose cut layer is most accurate on held-out rows, among those with at most 4k.
        search: how to find the densest point: "path", "bisect" or "coarse_to_fine" (`elastic_net_path`).
        alpha: elastic-net mixing of the path in [0, 1].
        n_lambdas: length of the λ grid.
        epsilon: smallest λ of the grid as a share of the largest.
        tolerance: KKT residual to reach, relative to λ α; "exact" only.
        num_classes: C; the largest label plus one where None.
        val: held-out raw features and labels.
        val_fraction: share of the rows to hold out where there is no `val`; as published. Every class keeps rows to
            fit. 0 fits all rows and leaves the validation accuracy empty.
        stream: standardise chunk by chunk instead of keeping the (N, S) design matrix.
        seed: of what is drawn: the held-out rows, the order of rows of the stochastic solvers.
        group: the processes that share the rows; "exact" and "greedy" only.
        device: where to compute; the features' own by default.
        progress: whether to show progress bars.

    Returns:
        The head on the CPU in evaluation mode, on all F raw features, and how it came about.

    Raises:
        UserError: for bad input or options, see `select_features` and `elastic_net_path`.

    Example:
        >>> features = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
        >>> labels = features[:, :3].argmax(dim=1)
        >>> head, record = fit_sparse_layer(features, labels, n_features=3, features_per_class=2)
        >>> sorted(record.selection["features"]), head(features).shape
        ([0, 1, 2], torch.Size([60, 3]))
    """
    check_alpha(alpha)
    check_path_options(n_lambdas, epsilon, tolerance)
    seed = check_seed(seed)
    val_fraction = check_real("val_fraction", val_fraction, 0.0, 1.0, open_above=True)
    _check(features_per_class, n_features, cut, choose, search, val is not None or val_fraction > 0)
    rows = Rows(features, device=device)
    labels, num_classes = check_labels(labels, rows.n_rows, num_classes, group)
    labels = labels.to(rows.device)
    if val is not None:
        if not isinstance(val, tuple | list) or len(val) != 2:
            raise UserError("val: expected a pair (features, labels)")
        held_features = as_float(val[0], (None, rows.n_features), "validation features")
        val = (held_features, as_labels(val[1], len(held_features), num_classes, "validation labels"))
    statistics = column_statistics(rows, group=group)
    index = held = None
    if val is None and val_fraction > 0:
        index, held = hold_out(labels, val_fraction, seed, group)
    if isinstance(selection, Selection):
        chosen = selection.first(n_features)
    else:
        chosen = select_features(
            features,
            labels,
            n_features,
            method=selection,
            seed=seed,
            index=index,
            num_classes=num_classes,
            statistics=statistics,
            group=group,
            device=device,
            progress=progress,
        )
    columns = chosen.index()
    fitted_labels = labels
    selected: Features = features
    if index is not None and held is not None:
        # of the fitted rows only the chosen columns are ever copied
        table = rows.columns(columns)
        val = (table[held.to(rows.device)], labels[held.to(rows.device)])
        selected, fitted_labels = table[index.to(rows.device)], labels[index.to(rows.device)]
        statistics_used = _narrowed(statistics, columns)
        used: Tensor | None = None
    else:
        statistics_used, used = statistics, columns
    path = elastic_net_path(
        selected,
        fitted_labels,
        solver=solver,
        alpha=alpha,
        n_lambdas=n_lambdas,
        epsilon=epsilon,
        stop_density=None if cut == "ternary" else (2.0 if choose == "density" else 4.0) * features_per_class,
        search=search,
        tolerance=tolerance,
        columns=used,
        statistics=statistics_used,
        num_classes=num_classes,
        val=val if val is None or len(val[1]) or group is not None else None,
        train_accuracy=True,
        seed=seed,
        stream=stream,
        group=group,
        device=device,
        progress=progress,
    )
    oracle = _oracle(Rows(selected, device=device), fitted_labels, num_classes, statistics_used, used, stream, group)
    if cut == "ternary":
        point = [one for one in path.points if one.lam > 0][-1]
        weight, bias = _ternary(oracle, point, features_per_class)
    elif choose == "density":
        point = densest_within(path.points, 2.0 * features_per_class)
        weight, bias = _cut(oracle, point, features_per_class, cut)
    else:
        assert val is not None
        point, weight, bias = _most_accurate(path, oracle, features_per_class, cut, val, used, group)
    kind = TernaryHead if cut == "ternary" else SparseHead
    head = kind(rows.n_features, num_classes, len(columns)).eval()
    head.fill(columns, statistics.mean[columns], statistics.scale[columns], weight, bias)
    record = SparseRecord(
        selection={
            "features": chosen.features,
            "method": chosen.method,
            "lam": chosen.lam,
            "log": chosen.log,
        },
        path=path.records(),
        layer={
            "cut": cut,
            "choose": choose,
            "wanted_features_per_class": features_per_class,
            **_summary(head, path, point, (selected, fitted_labels), val, used, group),
        },
    )
    return head, record


def _check(k: int, n_features: int, cut: str, choose: str, search: str, has_val: bool) -> None:
    if cut not in CUTS:
        raise UserError(f"cut must be one of {', '.join(CUTS)}, not {cut!r}")
    if choose not in CHOICES:
        raise UserError(f"choose must be one of {', '.join(CHOICES)}, not {choose!r}")
    check_whole("n_features", n_features, 1)
    check_whole("features_per_class", k, 1)
    if k > n_features:
        raise UserError(f"features_per_class: {k} wanted of {n_features} features; choose 1 to {n_features}")
    if choose == "validation" and not has_val:
        raise UserError("choose: validation needs held-out rows; give val or a val_fraction above 0")
    if cut == "ternary" and (choose != "density" or search != "path"):
        raise UserError("cut: ternary takes the last point of the path; leave choose and search as they are")
    if choose == "validation" and search != "path":
        raise UserError("choose: validation compares the points of the whole path; take search path")


def _narrowed(statistics: ColumnStatistics, columns: Tensor) -> ColumnStatistics:
    columns = columns.to(statistics.mean.device)
    none = statistics.dead[:0]
    return ColumnStatistics(statistics.mean[columns], statistics.std[columns], none, statistics.n_rows)


def _oracle(
    rows: Rows,
    labels: Tensor,
    num_classes: int,
    statistics: ColumnStatistics,
    columns: Tensor | None,
    stream: bool,
    group: ProcessGroup | None,
) -> Oracle:
    local: Oracle
    if stream:
        local = StreamedOracle(rows, statistics, labels, num_classes, columns=columns)
    else:
        local = MemoryOracle(design_matrix(rows, statistics, columns), labels, num_classes)
    return local if group is None else DistributedOracle(local, group)


def _cut(oracle: Oracle, point: PathPoint, k: int, cut: str) -> tuple[Tensor, Tensor]:
    mask = kept(point.weight, k, cut)
    return refit(oracle, point, mask) if cut == "refit" else (point.weight * mask, point.bias)


def _ternary(oracle: Oracle, point: PathPoint, k: int) -> tuple[Tensor, Tensor]:
    """The C·k largest weights as ± their mean size, and the bias that fits them best."""
    weight = ternary_weights(point.weight, k * len(point.weight))
    return weight, fit_bias(oracle, weight)


def _most_accurate(
    path: RegularisationPath,
    oracle: Oracle,
    k: int,
    cut: str,
    val: tuple[Tensor, Tensor],
    columns: Tensor | None,
    group: ProcessGroup | None,
) -> tuple[PathPoint, Tensor, Tensor]:
    best: tuple[float, PathPoint, Tensor, Tensor] | None = None
    for point in path:
        if point.density == 0 or point.density > 4.0 * k:
            continue
        weight, bias = _cut(oracle, point, k, cut)
        share = _accuracy(path, weight, bias, val, columns, group)
        # at equal accuracy the stronger penalty, which comes first
        if best is None or share > best[0]:
            best = (share, point, weight, bias)
    if best is None:
        raise UserError(f"features_per_class: no point of the path has between 1 and {4 * k} weights per class")
    return best[1:]


def _accuracy(
    path: RegularisationPath,
    weight: Tensor,
    bias: Tensor,
    data: tuple[Features, Tensor],
    columns: Tensor | None,
    group: ProcessGroup | None,
) -> float:
    rows = Rows(data[0], device=weight.device)
    right = torch.zeros(2, dtype=torch.float64, device=weight.device)
    w = weight.to(rows.dtype)
    mean, std = path.mean.to(rows.device, rows.dtype), path.std.to(rows.device, rows.dtype)
    for start, chunk in rows.chunks():
        chunk = chunk if columns is None else chunk[:, columns.to(chunk.device)]
        with full_precision():
            predicted = (((chunk - mean) / std) @ w.t() + bias.to(rows.dtype)).argmax(1)
        right[0] += predicted.eq(data[1][start : start + len(chunk)].to(rows.device)).sum()
        right[1] += len(chunk)
    right = total(right, group)
    return (right[0] / right[1]).item()


def _summary(
    head: SparseHead,
    path: RegularisationPath,
    point: PathPoint,
    train: tuple[Features, Tensor],
    val: tuple[Tensor, Tensor] | None,
    columns: Tensor | None,
    group: ProcessGroup | None,
) -> dict[str, Any]:
    counts = (head.weight != 0).sum(1)
    device = path.mean.device
    weight, bias = head.weight.to(device), head.bias.to(device)
    has_val = val is not None and (group is not None or len(val[1]) > 0)
    return {
        "solver": path.solver,
        "alpha": path.alpha,
        "lambda_max": path.lambda_max,
        "index": point.index,
        "lam": point.lam,
        "density_before_cut": point.density,
        "kkt": point.kkt,
        "features_per_class": counts.double().mean().item(),
        "n_features": head.n_features,
        "counts_per_class": counts.tolist(),
        "train_accuracy_before_cut": point.train_accuracy,
        "val_accuracy_before_cut": point.val_accuracy,
        "train_accuracy": _accuracy(path, weight, bias, train, columns, group),
        "val_accuracy": _accuracy(path, weight, bias, val, columns, group) if has_val and val is not None else None,
    }


