"""A metric that can be drawn, and that stays itself in a collection."""

import itertools
import warnings
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

_NUMBERS = itertools.count()
#: Name of the state that differs between any two metrics of a process, and the digits of its numbers: torchmetrics
#: compares states by their relative difference.
_OWN, _BASE = "own_number", 1000


class PlottedMetric(Metric):
    """A metric each of whose batches only adds to its sums, and whose `plot()` draws a value or several.

    Within a `MetricCollection` it keeps states of its own: torchmetrics lets metrics share states that have the same
    names and are equal after the first batch, and two different measures may well begin with the same sum. What keeps
    it apart is neither saved by `state_dict` nor in the way of `merge_state`.

    Its sums stay float64 and its counts int64, whatever `set_dtype` asks for: one process and many would no longer
    give the same digits.

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
        self.add_state(_OWN, _next_number(), dist_reduce_fx="max")

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, or what was pickled, as a metric of its own."""
        super().__setstate__(state)
        number = _next_number()
        self._defaults = {**self._defaults, _OWN: number}  # a shallow copy shares the dictionary of the original
        setattr(self, _OWN, number.to(getattr(self, _OWN).device))

    def persistent(self, mode: bool = False) -> None:
        """Choose whether sums and counts are part of the `state_dict`."""
        super().persistent(mode)
        self._persistent[_OWN] = False

    def set_dtype(self, dst_type: str | torch.dtype) -> "PlottedMetric":
        """Warn, and leave sums and counts in the types that make them exact."""
        warnings.warn(f"{type(self).__name__} keeps its sums in float64, not in {dst_type}", stacklevel=2)
        return self

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the present value, or given ones in their order.

        Args:
            val: what `compute` or `forward` returned, or a list of these; the present value where None.
            ax: axes of Matplotlib to draw into; new ones where None.

        Returns:
            The figure and its axes.
        """
        return self._plot(val, ax)


def _next_number() -> Tensor:
    """A number that no other metric of this process has, as two digits that differ by more than rounding."""
    return torch.tensor(divmod(next(_NUMBERS), _BASE))
