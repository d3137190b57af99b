"""Contrastiveness: is a feature either there or not?"""

import math
from typing import Any

import torch
from torch import Tensor

from handful.metrics.histogram import Histogram

#: Largest number of steps, and the move of a mean, in standard deviations, below which they end.
_STEPS, _SETTLED = 200, 1e-3
#: Cells of a table that is worked on at a time.
_CELLS = 2**19


class Contrastiveness(Histogram):
    """Measure `1 − mean over features of the overlap of two Gaussians` that are fitted to a feature's values.

    In [0, 1]; 1 where every feature is clearly present or clearly absent. The values are kept as histograms
    (`Histogram`), so memory does not grow with the number of images; the mixture starts from the best division in two.
    Features that never change do not count.

    Args:
        num_features: S.
        bins: of the histograms.

    Source: Norrenbrock et al., QPM (ICLR 2025), "contrastiveness".

    Example:
        >>> metric = Contrastiveness(num_features=1)
        >>> metric.update(torch.cat([torch.randn(50, 1), 100 + torch.randn(50, 1)]))
        >>> round(float(metric.compute()), 3)
        1.0
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(self, num_features: int, bins: int = 1024, **kwargs: Any) -> None:
        super().__init__(num_features, bins, **kwargs)

    def compute(self) -> Tensor:  # type: ignore[override]
        """Return the measure, float64; NaN where no feature changes."""
        counts, edges = super().compute()
        rows = max(1, _CELLS // self.bins)
        parts = [
            gaussian_overlap(*two_gaussians(counts[i : i + rows], edges[i : i + rows]))
            for i in range(0, len(counts), rows)
        ]
        overlap = torch.cat(parts) if parts else torch.full((1,), torch.nan, dtype=torch.float64)
        return 1 - overlap.nanmean()


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
    weight = counts.double() / counts.sum(dim=1, keepdim=True)
    number = torch.arange(counts.shape[1], dtype=torch.float64, device=counts.device)
    origin = (weight * number).sum(dim=1, keepdim=True)
    value = number - origin  # in bins, so that one floor suits all
    fitted = _fitted(*_filled(weight, value, _lower_half(weight)))
    scale = (edges[:, 1:2] - edges[:, :1]).double()
    mean = (fitted[:, :, 1] + origin + 0.5) * scale + edges[:, :1].double()
    changes = (counts > 0).sum(dim=1, keepdim=True) > 1
    return mean.where(changes, torch.nan), (fitted[:, :, 2].sqrt() * scale).where(changes, torch.nan)


def _filled(*tables: Tensor) -> list[Tensor]:
    """Tables `(S, B)` without the bins that are empty for every feature; each feature's filled ones come first.

    Args:
        tables: the first holds the weights of the bins, and 0 for those that are empty.
    """
    empty = tables[0] == 0
    most = int((~empty).sum(dim=1).max()) if len(empty) else 0
    order = empty.int().argsort(dim=1, stable=True)[:, :most]
    return [table.gather(1, order) for table in tables]


def _fitted(weight: Tensor, value: Tensor, share: Tensor) -> Tensor:
    """Mixing weights, means and variances of two components, `(S, 2, 3)`.

    Args:
        weight: `(S, B)`, shares of the bins.
        value: `(S, B)`, their values.
        share: `(S, B)`, of each bin that belongs to the first component at the beginning.
    """
    powers = weight[:, :, None] * torch.stack([torch.ones_like(value), value, value**2], dim=2)
    sums = powers.sum(dim=1)
    result = _moments(share, powers, sums)
    running, now = torch.arange(len(weight), device=weight.device), result
    for _ in range(_STEPS):
        if not len(running):
            break
        # the log of the ratio of the components is a quadratic in the value
        mixing, mean, variance = now.unbind(dim=2)
        curve = -0.5 / variance
        slope = mean / variance
        height = mixing.clamp(min=1e-300).log() - 0.5 * (variance.log() + mean**2 / variance)
        square, line, level = ((x[:, :1] - x[:, 1:]) for x in (curve, slope, height))
        share = (square * value).add_(line).mul_(value).add_(level).sigmoid_()
        new = _moments(share, powers, sums)
        moved = ((new[:, :, 1] - mean).abs() / variance.sqrt()).amax(dim=1) + (new[:, :, 0] - mixing).abs().amax(dim=1)
        result[running], now = new, new
        going = moved > _SETTLED
        if not bool(going.all()):
            running, now, value, powers, sums = (x[going] for x in (running, now, value, powers, sums))
    return result


def gaussian_overlap(mean: Tensor, spread: Tensor) -> Tensor:
    """The area under the smaller of two normal densities, in [0, 1].

    Args:
        mean: `(…, 2)`.
        spread: `(…, 2)`, standard deviations above 0.

    Example:
        >>> gaussian_overlap(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
        tensor([1.], dtype=torch.float64)
    """
    mean, spread = mean.double(), spread.double()
    (m1, m2), (s1, s2) = mean.unbind(-1), spread.unbind(-1)
    v1, v2 = s1**2, s2**2
    equal = (v2 / v1 - 1).abs() < 1e-9
    difference = torch.where(equal, torch.ones_like(v1), v1 - v2)
    # where the densities cross: a quadratic in x
    root = s1 * s2 * ((m1 - m2) ** 2 + (v1 - v2) * torch.log(v1 / v2)).clamp(min=0).sqrt()
    centre = m2 * v1 - m1 * v2
    crossings = torch.stack([centre + root, centre - root], dim=-1) / difference[..., None]
    apart = (_normal(crossings, m1, s1) - _normal(crossings, m2, s2)).abs().sum(dim=-1)
    same_width = torch.erfc((m1 - m2).abs() / (2 * math.sqrt(2) * s1))
    return torch.where(equal, same_width, (1 - apart).clamp(0, 1))


def _normal(x: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    return torch.special.ndtr((x - mean[..., None]) / spread[..., None])


def _lower_half(weight: Tensor) -> Tensor:
    """The bins `(S, B)` below the division with the smallest spread inside both parts, as 0 and 1 (Otsu 1979)."""
    number = torch.arange(weight.shape[1], dtype=torch.float64, device=weight.device)
    left = weight.cumsum(dim=1)
    sum_left = (weight * number).cumsum(dim=1)
    between = (sum_left[:, -1:] * left - sum_left) ** 2 / (left * (1 - left)).clamp(min=1e-12)
    between = torch.where((left > 1e-12) & (left < 1 - 1e-12), between, -torch.inf)
    return (number <= between.argmax(dim=1, keepdim=True)).double()


def _moments(share: Tensor, powers: Tensor, sums: Tensor) -> Tensor:
    """Mixing weights, means and variances `(S, 2, 3)`; values of a bin are spread evenly over it.

    Args:
        share: `(S, B)`, of each bin that belongs to the first component.
        powers: `(S, B, 3)`, weight of each bin times 1, its value and its square.
        sums: `(S, 3)`, of these over the bins.
    """
    first = (share[:, None] @ powers)[:, 0]
    owned = torch.stack([first, sums - first], dim=1)
    mixing = owned[:, :, :1].clamp(min=1e-300)
    mean = owned[:, :, 1:2] / mixing
    variance = (owned[:, :, 2:] / mixing - mean**2).clamp(min=0) + 1 / 12
    return torch.cat([owned[:, :, :1], mean, variance], dim=2)
