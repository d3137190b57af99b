"""`select_features`: the entry point of both selection procedures."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from handful.conversions import check_real, check_whole
from handful.errors import UserError
from handful.progress import ProgressBar
from handful.sparse.checks import check_alpha, check_finite, check_labels, check_seed
from handful.sparse.rows import Features, Rows
from handful.sparse.saga_selection import select_saga
from handful.sparse.selection import Selection, select_greedy
from handful.sparse.standardise import ColumnStatistics, column_statistics


def select_features(
    features: Features,
    labels: Tensor,
    n_features: int,
    *,
    method: str = "greedy",
    alpha: float = 0.8,
    fraction: float = 0.1,
    tolerance: float = 0.1,
    seed: int = 0,
    index: Tensor | None = None,
    num_classes: int | None = None,
    statistics: ColumnStatistics | None = None,
    group: ProcessGroup | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> Selection:
    """Choose `n_features` of the F columns.

    Args:
        features: raw (N, F), in memory or on disk (`Rows`); under `group` the rows of this process.
        labels: (N,) integers in [0, C).
        n_features: how many to choose.
        method: "greedy" (`select_greedy`: exact, determinate) or "saga" (`select_saga`: the published procedure).
        alpha: elastic-net mixing in [0, 1].
        fraction: λ as a share of the largest sensible one; for "saga" that of the raw features, as published.
        tolerance: KKT residual of the greedy refits relative to λ α.
        seed: of the order of rows; "saga" only.
        index: the rows that "saga" visits, all where None.
        num_classes: C; the largest label plus one where None.
        statistics: of the columns, computed where None.
        group: the processes that share the rows; "greedy" only.
        device: where to compute; the features' own by default.
        progress: whether to show a progress bar.

    Returns:
        The features in order of selection. Columns without variance are never among them, nor, for "greedy", a
        second column that repeats a chosen one. Columns that are linear combinations of others may be.

    Raises:
        UserError: for features that are not finite, labels out of range, a class without a sample, α outside
            [0, 1], an unknown method, or more features wanted than there are distinct columns with variance.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> labels = torch.arange(60) % 3
        >>> features = torch.rand(60, 5, generator=generator)
        >>> features[:, :3] += 2 * torch.eye(3)[labels]
        >>> sorted(select_features(features, labels, 3).features)
        [0, 1, 2]
    """
    rows = Rows(features, device=device)
    check_alpha(alpha)
    labels, num_classes = check_labels(labels, rows.n_rows, num_classes, group)
    check_finite(rows)
    statistics = statistics or column_statistics(rows, group=group)
    seed = check_seed(seed)
    check_real("fraction", fraction, 0.0, open_below=True)
    check_real("tolerance", tolerance, 0.0, open_below=True)
    check_whole("n_features", n_features, 1)
    alive = rows.n_features - len(statistics.dead)
    if n_features > alive:
        raise UserError(f"n_features: {n_features} wanted, but {alive} of {rows.n_features} features have variance")
    with ProgressBar(n_features, "choosing features", "features", show=progress) as bar:
        if method == "greedy":
            return select_greedy(
                rows,
                labels,
                num_classes,
                n_features,
                statistics,
                alpha=alpha,
                fraction=fraction,
                tolerance=tolerance,
                group=group,
                tick=bar.update,
            )
        if method == "saga":
            if group is not None:
                raise UserError("selection: saga runs in one process; take greedy for rows spread over processes")
            return select_saga(
                rows,
                labels,
                num_classes,
                n_features,
                statistics,
                alpha=alpha,
                fraction=fraction,
                seed=seed,
                index=index,
                tick=bar.update,
            )
    raise UserError(f"selection must be one of greedy, saga, not {method!r}")
