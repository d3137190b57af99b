"""`elastic_net_path`: the door to the three solvers of the regularisation path."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from handful.conversions import as_index, as_labels, check_real, check_whole
from handful.errors import UserError
from handful.networks.heads import MIN_STD
from handful.progress import ProgressBar
from handful.sparse.checks import check_alpha, check_finite, check_labels, check_path_options, check_seed
from handful.sparse.glm_saga_package import glm_saga_path
from handful.sparse.minimise import lambda_grid, lambda_max
from handful.sparse.oracle import ChunkedOracle, DistributedOracle, MemoryOracle, Oracle, StreamedOracle, full_precision
from handful.sparse.path import ExactPath, PathPoint, RegularisationPath
from handful.sparse.ranks import total
from handful.sparse.rows import Features, Rows
from handful.sparse.saga import saga_path
from handful.sparse.search import bisect, coarse_to_fine
from handful.sparse.standardise import ColumnStatistics, column_statistics, design_matrix
from handful.threads import threads_for

SOLVERS = ("exact", "saga", "glm_saga")
SEARCHES = ("path", "bisect", "coarse_to_fine")


def elastic_net_path(
    features: Features,
    labels: Tensor,
    *,
    solver: str = "exact",
    alpha: float = 0.99,
    n_lambdas: int = 100,
    epsilon: float = 1e-3,
    lambdas: Sequence[float] | None = None,
    stop_density: float | None = None,
    search: str = "path",
    tolerance: float = 1e-2,
    floor: float = 0.0,
    max_passes: int = 2000,
    gap: bool = False,
    columns: Tensor | None = None,
    index: Tensor | None = None,
    statistics: ColumnStatistics | None = None,
    num_classes: int | None = None,
    val: tuple[Features, Tensor] | None = None,
    train_accuracy: bool = False,
    warm_start: Sequence[PathPoint] = (),
    include_zero: bool = False,
    seed: int = 0,
    stream: bool = False,
    group: ProcessGroup | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> RegularisationPath:
    """Multinomial logistic regression with elastic-net penalty over a grid of λ.

    Minimises  (1/N) Σ CE(W z + b, y) + λ (α ‖W‖₁ + (1 − α)/2 ‖W‖²)  on standardised features z, b free (Wong et al.
    2021, eq. 1). Memory beside the features: (S+1) N b bytes for the design matrix (none with `stream`), 8 C (S+1)
    (2 · 10 + 12) bytes for the exact solver and 3 b C (S+1)² more where blocks of the Hessian pay (`ClassBlocks`),
    4 N C for "saga".

    Args:
        features: raw (N, F), in memory or on disk (`Rows`); under `group` the rows of this process.
        labels: (N,) integers in [0, C).
        solver: "exact" (`ExactPath`), "saga" (the reference's iterates) or "glm_saga" (the package as installed).
        alpha: elastic-net mixing in [0, 1].
        n_lambdas: length of the grid, from the smallest λ without any weight down to `epsilon` times that.
        epsilon: see above.
        lambdas: a grid of one's own, falling; "exact" only.
        stop_density: ends the path at the second point in a row with more non-zero weights per class.
        search: "path" along the grid; "bisect" and "coarse_to_fine" solve only what brackets `stop_density`.
            "exact" only.
        tolerance: KKT residual to reach relative to α max(λ, floor · λ_max).
        floor: see above.
        max_passes: a λ is left after so many passes over the rows; its record shows the residual reached.
        gap: whether to bound the distance to the optimum at every point (`DualityGap`).
        columns: (S,) the features to use, all where None.
        index: (n,) ascending, the rows to fit, all where None. Statistics are those of all rows.
        statistics: of all F columns, computed where None.
        num_classes: C; the largest label plus one where None.
        val: held-out (features (M, F), labels (M,)) for the accuracy of every point.
        train_accuracy: whether to compute that of the fitted rows.
        warm_start: points of an earlier path, one per λ of the grid (or of its beginning), to start from where they
            are better than what the path itself leads to; "exact" only.
        include_zero: whether to add λ = 0 at the end, as published; not for "exact", as separable rows have no
            solution there.
        seed: of the order of rows, stochastic solvers only.
        stream: standardise chunk by chunk instead of keeping the design matrix.
        group: the processes that share the rows; "exact" only.
        device: where to compute; the features' own by default.
        progress: whether to show a progress bar.

    Raises:
        UserError: for features that are not finite, labels out of range, a class without a sample, α outside
            [0, 1], an unknown solver or search, options that the solver does not have, or no feature at all.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> labels = torch.arange(60) % 3
        >>> features = torch.rand(60, 5, generator=generator)
        >>> features[:, :3] += 2 * torch.eye(3)[labels]
        >>> path = elastic_net_path(features, labels, n_lambdas=5)
        >>> len(path), path[0].density, path[4].density > 0
        (5, 0.0, True)
    """
    rows = Rows(features, device=device)
    if rows.n_features == 0 or (columns is not None and len(columns) == 0):
        raise UserError("features: there is no column to fit")
    if columns is not None:
        columns = as_index(columns, (None,), rows.n_features, "columns")
    if index is not None:
        index = as_index(index, (None,), rows.n_rows, "index")
    if statistics is not None and len(statistics.mean) != rows.n_features:
        raise UserError(f"statistics: of {len(statistics.mean)} columns, but the features have {rows.n_features}")
    check_alpha(alpha)
    labels, num_classes = check_labels(labels, rows.n_rows, num_classes, group)
    _check_options(solver, search, lambdas, group, include_zero, stop_density, stream)
    check_path_options(n_lambdas, epsilon, tolerance)
    seed = check_seed(seed)
    check_whole("max_passes", max_passes, 1)
    check_real("floor", floor, 0.0)
    if stop_density is not None:
        check_real("stop_density", stop_density, 0.0)
    check_finite(rows)
    statistics = statistics or column_statistics(rows, group=group)
    if len(statistics.dead) == rows.n_features:
        raise UserError(
            f"features: none of the {rows.n_features} has variance, so nothing can be learnt from them; it counts from "
            f"a standard deviation of {MIN_STD:g}, and of a millionth of the mean, on"
        )
    labels = labels.to(rows.device)
    fitted = labels if index is None else labels[index.to(rows.device)]
    if index is not None:
        check_labels(fitted, len(fitted), num_classes, group)
    local: Oracle
    if stream:
        if index is not None:
            raise UserError("stream: reads all rows; give the rows to fit instead of an index")
        local = StreamedOracle(rows, statistics, fitted, num_classes, columns=columns)
    else:
        design = design_matrix(rows, statistics, columns, index)
        local = MemoryOracle(design, fitted, num_classes)
    oracle = local if group is None else DistributedOracle(local, group)
    work = len(fitted) * (rows.n_features if columns is None else len(columns)) * num_classes
    with threads_for(work), ProgressBar(n_lambdas, "regularisation path", "points", show=progress) as bar:

        def tick(point: PathPoint) -> None:
            bar.say(density=f"{point.density:.1f}")
            bar.update()

        if solver == "exact":
            largest = lambda_max(oracle(oracle.bias_only()).gradient, alpha)
            grid = list(lambdas) if lambdas is not None else lambda_grid(largest, n_lambdas, epsilon)
            path = ExactPath(
                oracle, grid, alpha, tolerance=tolerance, floor=floor, max_passes=max_passes, gap=gap
            )
            if warm_start:
                path.hints = {
                    place: torch.cat([point.weight, point.bias[:, None]], 1).to(rows.device)
                    for place, point in enumerate(warm_start)
                }
            if search == "bisect" and stop_density is not None:
                points = bisect(path, stop_density, tick=tick)
            elif search == "coarse_to_fine" and stop_density is not None:
                assert isinstance(oracle, MemoryOracle)
                points = coarse_to_fine(oracle, path, stop_density, tick=tick)
            else:
                points = path.run(stop_density, tick=tick)
        else:
            assert isinstance(local, MemoryOracle)
            largest = lambda_max(local(local.bias_only()).gradient, alpha)
            run = saga_path if solver == "saga" else glm_saga_path
            points = run(
                local.design,
                fitted,
                num_classes,
                alpha=alpha,
                n_lambdas=n_lambdas,
                epsilon=epsilon,
                seed=seed,
                include_zero=include_zero,
                stop_density=stop_density,
                tick=tick,
            )
    if train_accuracy:
        for point, share in zip(points, _accuracies(points, local, group), strict=True):
            point.train_accuracy = share
    if val is not None:
        held_out = Rows(val[0], device=rows.device)
        if held_out.n_features != rows.n_features:
            raise UserError(f"validation features: {held_out.n_features} columns, but {rows.n_features} to fit")
        check_finite(held_out, "validation features")
        held_labels = as_labels(val[1], held_out.n_rows, num_classes, "validation labels").to(held_out.device)
        validation = StreamedOracle(held_out, statistics, held_labels, num_classes, columns=columns)
        for point, share in zip(points, _accuracies(points, validation, group), strict=True):
            point.val_accuracy = share
    used = slice(None) if columns is None else columns.to(statistics.mean.device)
    return RegularisationPath(points, alpha, largest, solver, statistics.mean[used], statistics.scale[used])


def _check_options(
    solver: str,
    search: str,
    lambdas: Sequence[float] | None,
    group: ProcessGroup | None,
    include_zero: bool,
    stop_density: float | None,
    stream: bool,
) -> None:
    if solver not in SOLVERS:
        raise UserError(f"solver must be one of {', '.join(SOLVERS)}, not {solver!r}")
    if search not in SEARCHES:
        raise UserError(f"search must be one of {', '.join(SEARCHES)}, not {search!r}")
    if search != "path" and stop_density is None:
        raise UserError(f"search: {search} needs stop_density, the density to find")
    if solver != "exact" and (lambdas is not None or group is not None or search != "path" or stream):
        raise UserError(f"solver: {solver} goes its own grid in one process in memory; take exact for the rest")
    if search == "coarse_to_fine" and (group is not None or stream):
        raise UserError("search: coarse_to_fine samples rows in the memory of one process; take path or bisect")
    if solver == "exact" and include_zero:
        raise UserError("include_zero: λ = 0 has no solution on separable rows; only saga and glm_saga stop there")
    if lambdas is not None and (not len(lambdas) or not all(isfinite(lam) for lam in lambdas)):
        raise UserError("lambdas: expected at least one, and finite numbers")
    if lambdas is not None and (any(b >= a for a, b in pairwise(lambdas))):
        raise UserError("lambdas: expected a falling sequence")
    if lambdas is not None and lambdas[-1] <= 0:
        raise UserError("lambdas: expected positive values")


def _accuracies(points: Sequence[PathPoint], oracle: Oracle, group: ProcessGroup | None) -> list[float]:
    """Share of right predictions of every point on the oracle's rows."""
    right = torch.zeros(len(points) + 1, dtype=torch.float64, device=oracle.device)
    assert isinstance(oracle, ChunkedOracle)
    for design, labels in oracle.chunks():
        right[-1] += len(labels)
        for place, point in enumerate(points):
            weight = torch.cat([point.weight, point.bias[:, None]], 1).to(design.dtype)
            with full_precision():
                right[place] += (design @ weight.t()).argmax(1).eq(labels).sum()
    right = total(right, group)
    return (right[:-1] / right[-1]).tolist()
