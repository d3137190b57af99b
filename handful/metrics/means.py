"""An average that is the same on one process and on many."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from handful.inputs import as_tensor


class Mean(Metric):
    """Average all values seen, with a float64 sum and a count, so that one process and many give the same digits.

    Example:
        >>> metric = Mean()
        >>> metric.update(torch.tensor([1.0, 2.0]))
        >>> metric.update(torch.tensor([6.0]))
        >>> float(metric.compute())
        3.0
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Add values of any shape: a tensor, an array, a list or a number."""
        values = as_tensor(values, "values")
        self.total += values.double().sum()
        self.count += values.numel()

    def compute(self) -> Tensor:
        """Return the mean, float64; NaN where nothing was seen."""
        return self.total / self.count
