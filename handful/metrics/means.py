"""An average that is the same on one process and on many."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class Mean(Metric):
    """The mean of all values seen; float64 sum and count, so that ranks add up without a trace.

    Source of the rule: sums and counts only, nothing gathered, nothing averaged twice.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Values of any shape, one an image: a tensor, an array, a list or a number."""
        values = torch.as_tensor(values)
        self.total += values.double().sum()
        self.count += values.numel()

    def compute(self) -> Tensor:
        """The mean, NaN where nothing was seen."""
        return self.total / self.count
