"""Figures of a run: measures by epoch, the regularisation path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from handful.report.text import figure_text

#: Series by name: (x, y) each.
Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]

_COLOURS = ("#3566c0", "#cf3b36", "#2a8c6a", "#b07d12", "#7a4fb5", "#6a6f7b")


@dataclass(frozen=True)
class Path:
    """A regularisation path.

    Attributes:
        density: mean number of weights per class, of every point.
        accuracy: series by name over the density, in per cent.
        chosen: density of the point that was taken.
        wanted: weights per class that were kept of it.
    """

    density: Sequence[float]
    accuracy: Series
    chosen: float | None = None
    wanted: float | None = None


def epochs_figure(panels: Mapping[str, Series]) -> Figure:
    """Draw measures by epoch, a panel each.

    Args:
        panels: title → series by name, x the epoch.
    """
    figure = Figure(figsize=(3.4 * len(panels), 2.6), layout="constrained")
    for axes, (title, series) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for (name, (x, y)), colour in zip(series.items(), _cycle(len(series)), strict=True):
            axes.plot(x, y, color=colour, label=figure_text(name), marker="o" if len(x) < 25 else None, markersize=3)
        axes.set_title(figure_text(title), fontsize=10, loc="left")
        axes.set_xlabel("epoch", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain(axes)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=8)
    return figure


def path_figure(path: Path) -> Figure:
    """Draw the accuracy along the regularisation path, over the mean number of weights per class."""
    accuracy, chosen, wanted = path.accuracy, path.chosen, path.wanted
    figure = Figure(figsize=(5.2, 3), layout="constrained")
    axes = figure.subplots()
    for (name, (x, y)), colour in zip(accuracy.items(), _cycle(len(accuracy)), strict=True):
        axes.plot(x, y, ".", color=colour, label=figure_text(name))
    if chosen is not None:
        axes.axvline(chosen, color="#6a6f7b", linewidth=1, linestyle="--", label=f"taken: {chosen:.1f} per class")
    if wanted is not None:
        axes.axvline(wanted, color="#6a6f7b", linewidth=1, linestyle=":", label=f"kept of it: {wanted:.1f}")
    axes.set_xlim(0, max(path.density) or 1)
    axes.set_xlabel("weights per class, before the cut", fontsize=9)
    axes.set_ylabel("accuracy in %", fontsize=9)
    _plain(axes)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", alpha=0.25)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
