"""Sparseness: does a map single out a few pixels?"""

import torch
from torch import Tensor

from handful.conversions import as_maps
from handful.metrics.means import Mean


def gini(maps: Tensor) -> Tensor:
    """Return the Gini index of each map's magnitudes, float64 `(N,)` in [0, 1 − 1/(H·W)].

    0 for a constant map, of zeros too; 1 − 1/(H·W) for a single pixel. No forward pass.

    Args:
        maps: `(N, H, W)`.

    Raises:
        UserError: another shape, or values that are not finite.

    Source: Chalasani et al. 2020 (arXiv 1810.06583), section 5; Hurley and Rickard 2009.

    Example:
        >>> gini(torch.tensor([[[0.0, 0.0], [0.0, 5.0]], [[2.0, 2.0], [2.0, 2.0]]]))
        tensor([0.7500, 0.0000], dtype=torch.float64)
    """
    values = as_maps(maps).detach().double().abs().flatten(1).sort(dim=1).values
    values = values / values[:, -1:].clamp_min(torch.finfo(values.dtype).tiny)  # sums neither overflow nor vanish
    count = values.shape[1]
    weights = 2 * torch.arange(1, count + 1, device=values.device, dtype=values.dtype) - count - 1
    total = values.sum(dim=1)
    found = (values * weights).sum(dim=1) / (count * total.clamp_min(torch.finfo(values.dtype).tiny))
    return found.masked_fill(values[:, 0] == values[:, -1], 0.0)


class Sparseness(Mean):
    """Average `gini` over images; no forward pass.

    Example:
        >>> metric = Sparseness()
        >>> metric.update(torch.eye(2)[None])
        >>> float(metric.compute())
        0.5
    """

    higher_is_better = True

    def update(self, maps: Tensor) -> None:
        """Add maps `(N, H, W)`."""
        super().update(gini(maps))
