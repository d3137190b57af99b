"""How alike two maps are: rank correlation and structural similarity."""

import torch
from torch import Tensor

from handful.attribution.display import ROUNDING
from handful.blur import gaussian_blur
from handful.metrics.sensitivity_n import correlation


def is_constant(values: Tensor) -> Tensor:
    """Whether values are equal over the last dimension but for rounding, whatever their scale, bool.

    Example:
        >>> is_constant(torch.tensor([[0.3, 0.3 + 1e-8], [0.3, 0.4], [0.0, 0.0]])).tolist()
        [True, False, True]
    """
    reach = values.amax(dim=-1).double() - values.amin(dim=-1).double()
    return reach <= ROUNDING * values.abs().amax(dim=-1).double()


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's correlation over the last dimension, float64, ties with their mean rank.

    0 where `first` is constant; NaN where `second` is.

    Example:
        >>> rank_correlation(torch.tensor([1.0, 5.0, 9.0]), torch.tensor([-3.0, -2.0, 7.0])).round(decimals=6)
        tensor(1., dtype=torch.float64)
    """
    return correlation(mean_ranks(first), mean_ranks(second))


def mean_ranks(values: Tensor) -> Tensor:
    """Return the rank of each value over the last dimension from 0, equal values sharing their mean, float64.

    Example:
        >>> mean_ranks(torch.tensor([5.0, 1.0, 5.0]))
        tensor([1.5000, 0.0000, 1.5000], dtype=torch.float64)
    """
    ordered = values.contiguous().sort(dim=-1).values
    below = torch.searchsorted(ordered, values.contiguous())
    upto = torch.searchsorted(ordered, values.contiguous(), right=True)
    return (below + upto - 1).double() / 2


def structural_similarity(first: Tensor, second: Tensor, sigma: float = 1.5, full: bool = False) -> Tensor:
    """Return the SSIM of maps `(N, H, W)`, each stretched to [0, 1], float64 `(N,)`; constant maps become 0.

    Args:
        first: maps.
        second: maps of the same shape.
        sigma: of the Gaussian windows, in pixels.
        full: return the value at each pixel, `(N, H, W)`, instead of their mean.

    Source: Wang et al. 2004, Gaussian windows; as in Adebayo et al. 2018.

    Example:
        >>> structural_similarity(torch.eye(8)[None], 3 * torch.eye(8)[None] - 1)
        tensor([1.], dtype=torch.float64)
    """
    x, y = _stretched(first), _stretched(second)
    constants = (0.01**2, 0.03**2)
    means = [gaussian_blur(m, sigma, 5) for m in (x, y)]
    squares = [gaussian_blur(m.square(), sigma, 5) - mean.square() for m, mean in ((x, means[0]), (y, means[1]))]
    both = gaussian_blur(x * y, sigma, 5) - means[0] * means[1]
    found = (2 * means[0] * means[1] + constants[0]) * (2 * both + constants[1])
    found = found / ((means[0] ** 2 + means[1] ** 2 + constants[0]) * (squares[0] + squares[1] + constants[1]))
    return found[:, 0] if full else found.mean(dim=(1, 2, 3))


def _stretched(maps: Tensor) -> Tensor:
    flat = maps.double().flatten(1)
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    reach = high - low
    flat = torch.where(reach > 0, (flat - low) / torch.where(reach > 0, reach, 1), 0)
    return flat.reshape(maps.shape)[:, None]
