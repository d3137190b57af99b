"""What fewer features cost: `tradeoff`'s record as table and curve, with the run's own point."""

from collections.abc import Mapping
from typing import Any

from handful.explain.trade_off import accuracy_grid, trade_off_figure
from handful.report.content import Content
from handful.report.page import drawn


def build(content: Content) -> Mapping[str, Any] | None:
    """The accuracies of every size, and those of the run before and after finetuning."""
    if content.tradeoff is None:
        return None
    dense, sizes = content.tradeoff["dense"], content.tradeoff["sizes"]
    stages = content.results.get("stages", {})
    own = {
        stage: row
        for stage, row in stages.items()
        if stage in ("sparse", "finetuned") and {"accuracy", "features_per_class", "n_features"} <= set(row)
    }
    grid = accuracy_grid(sizes)
    counts = sorted({count for row in grid.values() for count in row})
    return {
        "figure": drawn(trade_off_figure(sizes, dense["accuracy"], dense["n_features"], own)),
        "columns": ["features", *(f"{count} per class" for count in counts)],
        "rows": [
            [str(total), *(f"{row[count]:.2f}" if count in row else "–" for count in counts)]
            for total, row in sorted(grid.items())
        ],
        "dense": dense,
        "own": own,
    }
