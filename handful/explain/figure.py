"""An explanation as one matplotlib figure, for notebooks."""

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from handful.report.overlays import overlay, picture
from handful.report.text import figure_text

if TYPE_CHECKING:
    from handful.explain.explanation import Explanation

_FOR, _AGAINST = "#cf3b36", "#3566c0"
_SIDE = 224


def explanation_figure(why: "Explanation") -> Figure:
    """Draw the image, the contributions as bars, where the strongest features looked, and the methods' maps.

    Args:
        why: the explanation.

    Returns:
        The figure; a notebook shows it, `figure.savefig(path)` writes it.
    """
    tiles = [(f"feature {feature}", values, True) for feature, values in why.features.items()]
    tiles += [(found.title, found.map, found.signed) for found in why.methods.values()]
    columns = max(4, min(6, len(tiles)))
    rows = 1 + -(-len(tiles) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.6 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    image = figure.add_subplot(grid[0, 0])
    image.imshow(np.asarray(picture(why.image, _SIDE)))
    image.axis("off")
    title = f"{figure_text(why.prediction.name)} {100 * why.prediction.probability:.1f} %"
    image.set_title("\n".join(textwrap.wrap(title, 24)), fontsize=10)
    bars = figure.add_subplot(grid[0, 1:])
    if why.contributions:
        _bars(bars, why)
    else:
        bars.axis("off")
    for number, (name, values, signed) in enumerate(tiles):
        axes = figure.add_subplot(grid[1 + number // columns, number % columns])
        axes.imshow(np.asarray(overlay(why.image, values, signed, _SIDE)))
        axes.axis("off")
        axes.set_title(figure_text(name), fontsize=9)
    return figure


def _bars(axes: Any, why: "Explanation") -> None:
    """Contributions as horizontal bars, the largest on top, the rest summed up, the bias last."""
    listed = why.contributions[: why.shown_features]
    rest = why.contributions[why.shown_features :]
    rows = [(f"feature {one.feature}", one.contribution) for one in listed]
    if rest:
        rows.append((f"{len(rest)} others", sum(one.contribution for one in rest)))
    rows.append(("bias", why.bias))
    rows.reverse()
    values = [value for _, value in rows]
    barh = axes.barh([label for label, _ in rows], values, color=[_FOR if v >= 0 else _AGAINST for v in values])
    axes.bar_label(barh, labels=[f"{value:+.2f}" for value in values], fontsize=8, padding=2)
    axes.axvline(0, color="#1f2126", linewidth=0.8)
    axes.margins(x=0.15)
    axes.tick_params(labelsize=8)
    axes.set_title(
        f"{figure_text(why.explained.name)}: score {why.explained.logit:+.2f}, next {figure_text(why.runner_up.name)}",
        fontsize=10,
    )
