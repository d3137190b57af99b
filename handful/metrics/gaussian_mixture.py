"""A mixture of two Gaussians for each of many histograms.

In NumPy on the CPU, wherever the histograms lie: the steps are many and small, and a call of torch costs more than one.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

#: Largest number of steps, and the move of a mean, in standard deviations, below which they end.
_STEPS, _SETTLED = 200, 1e-3
#: Tables of features that have settled are dropped when this part of the features, or less, runs on.
_FEWER = 0.8

Array = npt.NDArray[np.float64]


def two_gaussians(counts: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a mixture of two Gaussians to histograms by expectation maximisation.

    Args:
        counts: int64 `(S, B)`.
        edges: `(S, B + 1)`.

    Returns:
        Means and standard deviations, float64 `(S, 2)`; NaN for features with fewer than two filled bins.

    Example:
        >>> means, _ = two_gaussians(torch.tensor([[5, 5, 0, 0, 5, 5]]), torch.arange(7.0)[None])
        >>> [round(value) for value in means[0].tolist()]
        [1, 5]
    """
    size = counts.sum(dim=1, keepdim=True)
    weight = (counts.double() / size.clamp(min=1)).cpu().numpy()
    number = np.arange(weight.shape[1], dtype=np.float64)
    origin = (weight * number).sum(axis=1, keepdims=True)
    value = number - origin  # in bins, so that one floor suits all
    moments = torch.from_numpy(_fitted(*_filled(weight, value, _lower_half(weight)))).to(counts.device)
    start = edges[:, :1].double()
    scale = edges[:, 1:2].double() - start
    mean = (moments[1] + torch.from_numpy(origin).to(counts.device) + 0.5) * scale + start
    changes = (counts > 0).sum(dim=1, keepdim=True) > 1
    return mean.where(changes, torch.nan), (moments[2].sqrt() * scale).where(changes, torch.nan)


def _filled(weight: Array, *tables: Array) -> list[Array]:
    """Tables `(S, B)` without the bins that are empty for every feature; each feature's filled ones come first."""
    empty = weight == 0
    most = int((~empty).sum(axis=1).max(initial=0))
    order = empty.argsort(axis=1, kind="stable")[:, :most]
    return [np.take_along_axis(table, order, axis=1) for table in (weight, *tables)]


def _fitted(weight: Array, value: Array, share: Array) -> Array:
    """Mixing weights, means and variances of two components, `(3, S, 2)`, by expectation maximisation.

    Args:
        weight: `(S, B)`, shares of the bins.
        value: `(S, B)`, their values.
        share: `(S, B)`, of each bin that belongs to the first component at the beginning.
    """
    powers = weight[:, :, None] * np.stack([np.ones_like(value), value, value**2], axis=2)
    sums = powers.sum(axis=1)
    now = _moments(share, powers, sums)
    result = now.copy()
    running, going = np.arange(len(weight)), np.ones(len(weight), dtype=bool)
    with np.errstate(over="ignore"):  # of the exponential, whose reciprocal is 0 then
        for _ in range(_STEPS):
            new = _moments(_first_component(now, value), powers, sums)
            change = np.abs(new[:2] - now[:2])
            change[1] /= np.sqrt(now[2])
            furthest = np.maximum(change[:, :, 0], change[:, :, 1])
            now = new if going.all() else np.where(going[:, None], new, now)  # what has settled stays
            going &= furthest[0] + furthest[1] > _SETTLED
            left = int(np.count_nonzero(going))
            if left <= _FEWER * len(running):
                result[:, running] = now
                if not left:
                    break
                running, now, value = running[going], now[:, going], value[going]
                powers, sums, going = powers[going], sums[going], going[going]
    result[:, running] = now
    return result


def _first_component(moments: Array, value: Array) -> Array:
    """The share of each bin `(S, B)` that belongs to the first of two components: a sigmoid of a quadratic."""
    mixing, mean, variance = moments
    terms = np.empty_like(moments)  # of the quadratic, for each component
    slope = np.divide(mean, variance, out=terms[1])
    np.divide(-0.5, variance, out=terms[0])
    np.subtract(np.log(mixing), 0.5 * (np.log(variance) + mean * slope), out=terms[2])
    # of the negative, so that the sigmoid is 1 / (1 + exp)
    square, line, height = terms[:, :, 1:] - terms[:, :, :1]
    found = square * value
    found += line
    found *= value
    found += height
    np.exp(found, out=found)
    found += 1
    return np.reciprocal(found, out=found)


def _moments(share: Array, powers: Array, sums: Array) -> Array:
    """Mixing weights above 0, means and variances `(3, S, 2)`; values of a bin are spread evenly over it.

    Args:
        share: `(S, B)`, of each bin that belongs to the first component.
        powers: `(S, B, 3)`, weight of each bin times 1, its value and its square.
        sums: `(S, 3)`, of these over the bins.
    """
    found = np.empty((3, len(sums), 2))
    found[:, :, 0] = (share[:, None] @ powers)[:, 0].T
    np.subtract(sums.T, found[:, :, 0], out=found[:, :, 1])
    mixing, mean, variance = found
    np.maximum(mixing, 1e-300, out=mixing)
    mean /= mixing
    variance /= mixing
    variance -= mean**2
    np.maximum(variance, 0, out=variance)
    variance += 1 / 12
    return found


def _lower_half(weight: Array) -> Array:
    """The bins `(S, B)` below the division with the smallest spread inside both parts, as 0 and 1 (Otsu 1979)."""
    number = np.arange(weight.shape[1], dtype=np.float64)
    left = weight.cumsum(axis=1)
    sum_left = (weight * number).cumsum(axis=1)
    between = (sum_left[:, -1:] * left - sum_left) ** 2 / np.maximum(left * (1 - left), 1e-12)
    between = np.where((left > 1e-12) & (left < 1 - 1e-12), between, -np.inf)
    return (number <= between.argmax(axis=1, keepdims=True)).astype(np.float64)
