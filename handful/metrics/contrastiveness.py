"""Contrastiveness: is a feature either there or not?"""

import math
from typing import Any

import torch
from torch import Tensor

from handful.metrics.gaussian_mixture import two_gaussians
from handful.metrics.histogram import Histogram

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
