"""Numbers about sets of filters."""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_index

# Where the number of features is not known.
_ANY = 2**63 - 1


def membership(filters: Tensor, num_features: int) -> Tensor:
    """Filters `(C, k2)` → mask `(C, F)`, bool."""
    mask = torch.zeros(filters.shape[0], num_features, dtype=torch.bool, device=filters.device)
    return mask.scatter_(1, filters, True)


def overlap(filters: Any, others: Any) -> Tensor:
    """Share `(C,)` float64 in [0, 1] of a class's filters `(C, k2)` that are also among its `others` `(C, k2)`.

    Both may be tensors, arrays or nested lists, of any integer type.

    Raises:
        UserError: another type or shape, or a negative number.

    Example:
        >>> overlap(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[1, 4], [3, 2]])).tolist()
        [0.5, 1.0]
    """
    filters = as_index(filters, (None, None), _ANY, "filters")
    others = as_index(others, (len(filters), None), _ANY, "others").to(filters.device)
    return (filters.unsqueeze(2) == others.unsqueeze(1)).any(dim=2).double().mean(dim=1)


def union_size(filters: Tensor) -> int:
    """How many features are a filter of any class, of filters `(C, k2)`.

    Example:
        >>> union_size(torch.tensor([[0, 1], [1, 2]]))
        3
    """
    return filters.unique().numel()


def concentration(counts: Tensor, top: int) -> Tensor:
    """Share `(C,)` float64 in [0, 1] of a histogram `(C, F)` that its `top` highest bins hold.

    Example:
        >>> concentration(torch.tensor([[6, 3, 1]]), top=2).tolist()
        [0.9]
    """
    counts = counts.double()
    return counts.topk(top, dim=1).values.sum(dim=1) / counts.sum(dim=1).clamp(min=1)


def pairwise_information(filters: Tensor, num_features: int) -> float:
    """Mean mutual information, in bits, between the filters of two different classes.

    Of a feature drawn at random, how much does its being a filter of one class reveal of its being one of the
    other? 0 where the sets are independent, `H(k2/F)` where all classes share one set.

    Example:
        >>> pairwise_information(torch.tensor([[0], [0]]), num_features=2)
        1.0
    """
    mask = membership(filters, num_features).double()
    both = mask @ mask.T / num_features
    one = mask.mean(dim=1)
    information = torch.zeros_like(both)
    for joint, first, second in (
        (both, one, one),
        (one[:, None] - both, one, 1 - one),
        (one[None, :] - both, 1 - one, one),
        (1 - one[:, None] - one[None, :] + both, 1 - one, 1 - one),
    ):
        ratio = joint / (first[:, None] * second[None, :])
        information += torch.where(joint > 0, joint * ratio.clamp(min=1e-300).log2(), 0)
    classes = filters.shape[0]
    return float(information.sum() - information.diagonal().sum()) / (classes * (classes - 1))
