"""Averages that are the same on one process and on many."""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_double
from handful.metrics.plotted import PlottedMetric


class Mean(PlottedMetric):
    """Average all values seen, with a float64 sum and a count, so that one process and many give the same digits.

    Example:
        >>> metric = Mean()
        >>> metric.update(torch.tensor([1.0, 2.0]))
        >>> metric.update(torch.tensor([6.0]))
        >>> float(metric.compute())
        3.0
    """

    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Add values of any shape: a tensor, an array, a list or a number."""
        values = as_double(values, None, "values")
        self.total += values.sum()
        self.count += values.numel()

    def compute(self) -> Tensor:
        """Return the mean, float64; NaN where nothing was seen."""
        return self.total / self.count


class MeanWhereDefined(Mean):
    """Average the values that are defined; NaN stands for those that are not, and they are counted.

    Attributes:
        left_out: int64, number of values that were NaN.

    Example:
        >>> metric = MeanWhereDefined()
        >>> metric.update(torch.tensor([1.0, torch.nan, 3.0]))
        >>> float(metric.compute()), int(metric.left_out)
        (2.0, 1)
    """

    left_out: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("left_out", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Add values of any shape: a tensor, an array, a list or a number."""
        values = as_double(values, None, "values")
        undefined = values.isnan()
        self.left_out += undefined.sum()
        super().update(values[~undefined])
