"""An order of the features by their values alone: the order they come in does not reach a choice."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def canonical_order(columns: Tensor, *further: Tensor) -> Tensor:
    """The order `(F,)` of columns `(C, F)` by their values; equal columns keep the order they come in.

    Columns are compared by their sorted values first: where the order of the classes changes, theirs does not. The
    order itself has no meaning.

    Args:
        columns: (C, F), finite.
        further: (F,) values that tell equal columns apart.

    Example:
        >>> columns = torch.tensor([[3.0, 1.0, 2.0]])
        >>> columns[:, canonical_order(columns)].equal(columns[:, [2, 0, 1]][:, canonical_order(columns[:, [2, 0, 1]])])
        True
    """
    rows = _array(columns.T)
    ranked = np.sort(rows, axis=1)
    values = [_array(one) for one in further]
    keys = [
        (ranked[i].tobytes(), *(float(one[i]) for one in values), rows[i].tobytes()) for i in range(len(rows))
    ]
    return torch.tensor(sorted(range(len(keys)), key=keys.__getitem__), dtype=torch.int64, device=columns.device)


def inverse(order: Tensor) -> Tensor:
    """Where each of `order` stands: `values[order][inverse(order)]` equals `values`."""
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


def _array(values: Tensor) -> np.ndarray:
    """In contiguous float64, without negative zeros."""
    return np.ascontiguousarray(values.detach().cpu().double().numpy() + 0.0)
