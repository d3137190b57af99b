"""A metric whose result is a table."""

import copy
import functools
from collections.abc import Callable
from typing import Any

from torchmetrics import Metric


class ShapedMetric(Metric):
    """A metric whose result keeps its shape; torchmetrics makes a scalar of every tensor with one element.

    Example:
        >>> import torch
        >>> class Table(ShapedMetric):
        ...     def update(self):
        ...         pass
        ...     def compute(self):
        ...         return torch.zeros(1, 1)
        >>> table = Table()
        >>> table.update()
        >>> table.compute().shape
        torch.Size([1, 1])
    """

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """Pass the result through torchmetrics' own wrapper unseen; changes to it stay out of what is kept."""
        wrapped = super()._wrap_compute(lambda: _Unseen(compute()))

        @functools.wraps(compute)
        def shaped() -> Any:
            return copy.deepcopy(wrapped().result)

        return shaped


class _Unseen:
    """Something that is not a tensor, and no collection of any."""

    def __init__(self, result: Any) -> None:
        self.result = result
