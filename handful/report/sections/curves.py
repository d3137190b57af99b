"""Curves: measures by epoch, the regularisation path, the trade-off of size and accuracy."""

from collections.abc import Mapping
from typing import Any

from handful.report.content import Content
from handful.report.curves import epochs_figure, path_figure
from handful.report.page import drawn


def training(content: Content) -> Mapping[str, Any] | None:
    """Measures by epoch."""
    return {"figure": drawn(epochs_figure(content.curves))} if content.curves else None


def regularisation_path(content: Content) -> Mapping[str, Any] | None:
    """Accuracy along the path of the sparse phase."""
    return {"figure": drawn(path_figure(content.path))} if content.path else None
