"""Orders that are the same everywhere: equal values stand in the order of their index."""

import math

import torch
from torch import Tensor

from handful.conversions import check_real, check_whole
from handful.errors import UserError


def by_strength(features: Tensor) -> Tensor:
    """Pooled features `(B, F)` → indices `(B, F)` from the strongest feature to the weakest.

    The strength is the L1 norm of a pooled feature, its absolute value. Ties go to the lower index.

    Example:
        >>> by_strength(torch.tensor([[1.0, -3.0, 2.0]])).tolist()
        [[1, 2, 0]]
    """
    return torch.sort(features.abs(), dim=1, descending=True, stable=True).indices


def top_features(scores: Tensor, k2: int) -> Tensor:
    """Scores `(C, F)` → the `k2` features with the highest score, `(C, k2)` int64, best first, ties by index.

    Raises:
        UserError: `k2` is not in 1…F.

    Example:
        >>> top_features(torch.tensor([[1.0, 3.0, 3.0]]), 2).tolist()
        [[1, 2]]
    """
    num_features = scores.shape[1]
    k2 = check_whole("k2", k2, -(2**31))
    if not 1 <= k2 <= num_features:
        raise UserError(f"k2 must lie in 1…{num_features}, the number of features; got {k2}")
    return torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :k2]


def check_k1(k1: float, num_features: int) -> float:
    """`k1` as it is counted: an int in 1…F (features per image), or a share of the L1 mass in (0, 1).

    Raises:
        UserError: it is neither.
    """
    check_real("k1", k1, -math.inf)
    if 0 < k1 < 1:
        return float(k1)
    if k1 != int(k1) or not 1 <= k1 <= num_features:
        raise UserError(
            f"k1 must be a whole number in 1…{num_features}, the number of features, or a share of the L1 mass "
            f"between 0 and 1; got {k1}"
        )
    return int(k1)
