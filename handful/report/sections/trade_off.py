"""What fewer features cost: `tradeoff`'s record."""

from collections.abc import Mapping
from typing import Any

from handful.explain.trade_off import trade_off_figure
from handful.report.content import Content
from handful.report.page import drawn


def build(content: Content) -> Mapping[str, Any] | None:
    """The curve of accuracy over size."""
    if content.tradeoff is None:
        return None
    dense = content.tradeoff["dense"]
    return {"figure": drawn(trade_off_figure(content.tradeoff["sizes"], dense["accuracy"], dense["n_features"]))}
