"""Averages that are the same on one process and on many."""

import itertools
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from handful.inputs import as_tensor

_NUMBERS = itertools.count()


class Mean(Metric):
    """Average all values seen, with a float64 sum and a count, so that one process and many give the same digits.

    Within a `MetricCollection` every mean keeps states of its own: torchmetrics lets metrics share states that are
    equal after the first batch, and two different measures may well begin with the same sum.

    Example:
        >>> metric = Mean()
        >>> metric.update(torch.tensor([1.0, 2.0]))
        >>> metric.update(torch.tensor([6.0]))
        >>> float(metric.compute())
        3.0
    """

    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._number = next(_NUMBERS)  # states of one name alone are taken for the same
        self.add_state(self._state("total"), torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state(self._state("count"), torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def total(self) -> Tensor:
        """Sum of the values, float64."""
        return getattr(self, self._state("total"))

    @total.setter
    def total(self, value: Tensor) -> None:
        setattr(self, self._state("total"), value)

    @property
    def count(self) -> Tensor:
        """Number of the values, int64."""
        return getattr(self, self._state("count"))

    @count.setter
    def count(self, value: Tensor) -> None:
        setattr(self, self._state("count"), value)

    def _state(self, name: str) -> str:
        return f"{name}_{self._number}"

    def update(self, values: Tensor) -> None:
        """Add values of any shape: a tensor, an array, a list or a number."""
        values = as_tensor(values, "values")
        self.total += values.double().sum()
        self.count += values.numel()

    def compute(self) -> Tensor:
        """Return the mean, float64; NaN where nothing was seen."""
        return self.total / self.count

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the value, or given values in order, with matplotlib; see `torchmetrics.Metric.plot`.

        Args:
            val: values of `compute` or `forward`, one or a sequence; None computes it now.
            ax: matplotlib axes; None makes a figure.

        Returns:
            The figure and its axes.
        """
        return self._plot(val, ax)


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
        values = as_tensor(values, "values")
        undefined = values.isnan()
        self.left_out += undefined.sum()
        super().update(values[~undefined])
