"""The figure of what fewer features cost."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure


def tradeoff_figure(
    accuracy: Mapping[int, Mapping[int, float]],
    dense: float,
    n_dense: int,
    own: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Draw the test accuracy over features per class, a line for every number of features.

    Args:
        accuracy: n_features → features_per_class → test accuracy in per cent.
        dense: test accuracy of the dense stage in per cent.
        n_dense: its number of features.
        own: stage → its `accuracy`, `n_features` and `features_per_class`, drawn as points.
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.axhline(dense, color="#6a6f7b", linewidth=1, linestyle="--", label=f"dense, all {n_dense} features")
    wanted = sorted({count for row in accuracy.values() for count in row})
    for place, (n_features, row) in enumerate(sorted(accuracy.items(), reverse=True)):
        counts: Sequence[int] = sorted(row)
        axes.plot(
            [wanted.index(count) for count in counts],
            [row[count] for count in counts],
            marker="o",
            markersize=4,
            color=colormaps["viridis"](0.9 * place / max(1, len(accuracy) - 1)),
            label=f"{n_features} features",
        )
    for (stage, point), marker in zip((own or {}).items(), "*D^v", strict=False):
        position = float(np.interp(point["features_per_class"], wanted, range(len(wanted))))
        label = f"this run, {stage}: {point['n_features']} features"
        axes.plot(position, point["accuracy"], marker, color="#cf3b36", markersize=9, label=label)
    axes.set_xticks(range(len(wanted)), [str(count) for count in wanted])
    axes.set_xlabel("features per class")
    axes.set_ylabel("test accuracy in %, before finetuning")
    axes.grid(axis="y", alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure
