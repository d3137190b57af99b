"""A metric that can be drawn, and that stays itself in a collection."""

import itertools
from typing import Any

import torch
from torchmetrics import Metric

_NUMBERS = itertools.count()


class PlottedMetric(Metric):
    """A metric each of whose batches only adds to its sums, and whose `plot()` draws a value or several.

    Within a `MetricCollection` it keeps states of its own: torchmetrics lets metrics share states that have the same
    names and are equal after the first batch, and two different measures may well begin with the same sum.

    Example:
        >>> from handful.metrics import Mean
        >>> mean = Mean()
        >>> mean.update([1.0, 3.0])
        >>> figure, axes = mean.plot()
        >>> axes.lines[0].get_ydata()[0].item()
        2.0
    """

    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state(f"own_{next(_NUMBERS)}", torch.zeros(()), dist_reduce_fx="sum")

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the present value, or given ones in their order.

        Args:
            val: what `compute` or `forward` returned, or a list of these; the present value where None.
            ax: axes of Matplotlib to draw into; new ones where None.

        Returns:
            The figure and its axes.
        """
        return self._plot(val, ax)
