"""How local a feature is: the bias of the QPM problem towards features that are active at one position."""

from __future__ import annotations

import torch
from torch import Tensor

from handful.assignment.constants import rounded

#: The largest size of the bias.
BIAS_SCALE = 0.1 * 10**0.5


class LocalitySums:
    """Sums over images from which the locality bias follows; sums of several processes or parts add up.

    Args:
        n_features: F.

    Attributes:
        peaks: (F,) float64: the maximum of the map's spatial softmax, weighted by the feature's share of the image's
            activation, summed over images.
        border: (F,) float64: the same shares of the images where the maximum lies on the map's border.
        images: () float64.

    Example:
        >>> sums = LocalitySums(n_features=3)
        >>> sums.update(torch.rand(4, 3, 5, 5))
        >>> sums.bias().shape
        torch.Size([3])
    """

    def __init__(self, n_features: int, device: torch.device | str | None = None) -> None:
        self.peaks = torch.zeros(n_features, dtype=torch.float64, device=device)
        self.border = torch.zeros_like(self.peaks)
        self.images = torch.zeros((), dtype=torch.float64, device=device)

    def update(self, maps: Tensor) -> None:
        """Add feature maps `(B, F, h, w)`."""
        maps = maps.double()
        height, width = maps.shape[2:]
        pooled = maps.mean(dim=(2, 3)).clamp(min=0)
        share = pooled / pooled.sum(dim=1, keepdim=True).clamp(min=1e-12)
        peak, position = maps.flatten(2).softmax(dim=2).max(dim=2)
        row, column = position // width, position % width
        outer = (row == 0) | (row == height - 1) | (column == 0) | (column == width - 1)
        self.peaks += (peak * share).sum(dim=0)
        self.border += (outer * share).sum(dim=0)
        self.images += len(maps)

    def bias(self) -> Tensor:
        """Bias `(F,)` of zero mean, at most 0.316 in size; features that peak on the border get the smallest locality.

        Source: QPM (ICLR 2025), supplementary material.
        """
        # only ratios count; rounded, so that the order of the images does not
        local = clip_and_scale(rounded(self.peaks / self.peaks.max().clamp(min=1e-300)))
        inside = clip_and_scale(rounded(-self.border / self.images.clamp(min=1)))
        return clip_and_scale(torch.where(inside >= 0, local, local.min()))


def clip_and_scale(values: Tensor) -> Tensor:
    """Clip to the range of the largest cluster, subtract the mean, scale to at most 0.316 in size."""
    low, high = largest_cluster(values)
    centred = values.clamp(low, high)
    centred = centred - centred.mean()
    largest = centred.abs().max()
    return centred / largest * BIAS_SCALE if largest > 0 else centred


def largest_cluster(values: Tensor, quantile: float = 0.3) -> tuple[float, float]:
    """Range of the largest cluster of numbers `(F,)` by flat-kernel mean shift.

    The kernel's width is the mean distance to the `quantile`·F-th nearest number, as in scikit-learn's
    `estimate_bandwidth`.
    """
    numbers = values.double().cpu().sort().values
    neighbours = max(int(quantile * len(numbers)), 1)
    width = float((numbers[:, None] - numbers).abs().sort(dim=1).values[:, neighbours - 1].mean())
    if width <= 0:
        return float(numbers[0]), float(numbers[-1])
    sums = torch.cat([numbers.new_zeros(1), numbers.cumsum(0)])
    modes = numbers.clone()
    for _ in range(300):
        begin = torch.searchsorted(numbers, modes - width, side="left")
        end = torch.searchsorted(numbers, modes + width, side="right")
        moved = (sums[end] - sums[begin]) / (end - begin)
        still = (moved - modes).abs().max() < 1e-3 * width
        modes = moved
        if still:
            break
    weight = torch.searchsorted(numbers, modes + width, side="right") - torch.searchsorted(numbers, modes - width)
    centres: list[float] = []
    for i in weight.argsort(descending=True, stable=True).tolist():
        if all(abs(float(modes[i]) - centre) > width for centre in centres):
            centres.append(float(modes[i]))
    member = (numbers[:, None] - torch.tensor(centres, dtype=torch.float64)).abs().argmin(dim=1)
    largest = numbers[member == member.bincount().argmax()]
    return float(largest.min()), float(largest.max())
