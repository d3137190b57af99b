"""Feature correlation: does another feature say the same?"""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import check_whole
from handful.metrics.finite import as_finite
from handful.metrics.plotted import PlottedMetric


def largest_cosines(gram: Tensor) -> Tensor:
    """Per feature, the largest cosine with any other, `(S,)`; NaN for features that are all zero, or alone.

    Args:
        gram: `(S, S)`, the products of all pairs of features summed over images.

    Example:
        >>> largest_cosines(torch.tensor([[4.0, 2.0], [2.0, 4.0]]))
        tensor([0.5000, 0.5000])
    """
    length = gram.diagonal().sqrt()
    cosine = gram / (length[:, None] * length)
    cosine.fill_diagonal_(-torch.inf)
    cosine = torch.where(cosine.isnan(), -torch.inf, cosine)
    largest = cosine.amax(dim=1) if len(cosine) else length
    return torch.where(largest.isfinite(), largest, torch.nan)


class FeatureCorrelation(PlottedMetric):
    """Measure the mean over features of the largest cosine with another feature, over images, not centred.

    In [−1, 1]; lower means that features differ more. Features that are zero for all images do not count.

    Args:
        num_features: S.

    Source: Norrenbrock et al., QPM (ICLR 2025), "correlation", as in the authors' code.

    Example:
        >>> metric = FeatureCorrelation(num_features=2)
        >>> metric.update(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        >>> float(metric.compute())
        0.0
    """

    higher_is_better = False
    gram: Tensor

    def __init__(self, num_features: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_features = num_features = check_whole("num_features", num_features, 0)
        zeros = torch.zeros(num_features, num_features, dtype=torch.float64)
        self.add_state("gram", zeros, dist_reduce_fx="sum")

    def update(self, features: Tensor) -> None:
        """Add features `(B, S)` of a batch.

        Raises:
            UserError: another shape, or features that are not finite.
        """
        features = as_finite(features, (None, self.num_features), "features").double()
        self.gram += features.T @ features

    def compute(self) -> Tensor:
        """Return the mean, float64; NaN where there are not two features with any activation."""
        return largest_cosines(self.gram).nanmean()
