"""How the time of path and selection grows with rows, classes and features × selected: a table and a plot.

`python -m benchmarks.sparse_growth`, one thread, about two minutes; writes `sparse_growth.png` beside itself.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.ticker import NullLocator

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from benchmarks.sparse_data import network_like_features
from handful.sparse import elastic_net_path, select_features

PLOT = Path(__file__).with_name("sparse_growth.png")
BASE = {"rows": 4_000, "features": 512, "classes": 100, "selected": 20}
DECADES = {
    "rows": [1_500, 3_000, 6_000, 15_000],
    "classes": [40, 80, 160, 400],
    "features": [256, 512, 1_024, 2_560],
    "selected": [5, 10, 20, 50],
}


def measure(rows: int, features: int, classes: int, selected: int) -> tuple[float, float]:
    """CPU seconds of the selection and of the path to 10 weights per class; the smaller of two runs each."""
    x, y = network_like_features(rows, features, classes)
    best = [math.inf, math.inf]
    for _ in range(2):
        begun = time.process_time()
        chosen = select_features(x, y, selected)
        between = time.process_time()
        elastic_net_path(x[:, chosen.features].contiguous(), y, stop_density=min(10.0, selected / 2))
        best = [min(best[0], between - begun), min(best[1], time.process_time() - between)]
    return best[0], best[1]


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of the least-squares line through the logarithms."""
    x, y = torch.tensor(sizes).double().log(), torch.tensor(seconds).double().log()
    x, y = x - x.mean(), y - y.mean()
    return float((x @ y) / (x @ x))


def main() -> None:
    argument_parser(__doc__).parse_args()
    torch.set_num_threads(1)
    lines = ["| grows | sizes | selection, s | exponent | path, s | exponent |", "|---|---|---|---|---|---|"]
    figure, axes = plt.subplots(1, len(DECADES), figsize=(14, 3.6), sharey=True, layout="constrained")
    for axis, (what, sizes) in zip(axes, DECADES.items(), strict=True):
        both = [measure(**{**BASE, what: size}) for size in sizes]
        selection, path = [s for s, _ in both], [p for _, p in both]
        for seconds, name, mark in ((selection, "selection", "o-"), (path, "path to 10 per class", "s-")):
            axis.loglog(sizes, seconds, mark, label=f"{name}, exponent {exponent(sizes, seconds):.2f}")
        axis.loglog(sizes, [selection[0] * s / sizes[0] for s in sizes], "k:", lw=1, label="linear")
        axis.set_xlabel({"rows": "rows N", "classes": "classes C", "features": "features F"}.get(what, "selected"))
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.legend(fontsize=7)
        cells = [", ".join(f"{value:.3g}" for value in values) for values in (sizes, selection, path)]
        lines.append(
            f"| {what} | {cells[0]} | {cells[1]} | {exponent(sizes, selection):.2f} | {cells[2]} "
            f"| {exponent(sizes, path):.2f} |"
        )
        print(lines[-1], flush=True)
    axes[0].set_ylabel("CPU seconds, one thread")
    figure.savefig(PLOT, dpi=110)
    base = ", ".join(f"{value:,} {name}" for name, value in BASE.items())
    title = "The sparse layer: growth (`python -m benchmarks.sparse_growth`)"
    write_section(title, [f"Others fixed at {base}. ![growth]({PLOT.name})", "", *lines])


if __name__ == "__main__":
    main()
