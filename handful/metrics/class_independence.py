"""Class-independence: does a feature speak for many classes, or is it one class in disguise?"""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_labels, check_whole
from handful.metrics.finite import as_finite
from handful.metrics.plotted import PlottedMetric


class ClassIndependence(PlottedMetric):
    """Measure `1 − mean over features of the largest share of a feature's activation that falls into one class`.

    The activation of a feature is counted from its minimum over all images. In [0, 1 − 1/C]; 0 where every feature is
    active for one class alone. Features that never change have no activation and do not count.

    Args:
        num_features: S.
        num_classes: C.

    Source: Norrenbrock et al., QPM (ICLR 2025), "class-independence".

    Example:
        >>> metric = ClassIndependence(num_features=1, num_classes=2)
        >>> metric.update(torch.tensor([[0.0], [3.0], [1.0]]), torch.tensor([0, 0, 1]))
        >>> float(metric.compute())
        0.25
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    sums: Tensor
    images: Tensor
    smallest: Tensor

    def __init__(self, num_features: int, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_features = num_features = check_whole("num_features", num_features, 0)
        self.num_classes = num_classes = check_whole("num_classes", num_classes, 0)
        zeros = torch.zeros(num_classes, num_features, dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("smallest", torch.full((num_features,), torch.inf, dtype=torch.float64), dist_reduce_fx="min")

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            features: `(B, S)`.
            labels: int64 `(B,)`, in [0, C).

        Raises:
            UserError: shapes that do not fit one another, labels out of range, features that are not finite.
        """
        features = as_finite(features, (None, self.num_features), "features").double()
        labels = as_labels(labels, len(features), self.num_classes).to(features.device)
        if not len(features):
            return
        self.sums.index_add_(0, labels, features)
        self.images += torch.bincount(labels, minlength=self.num_classes)
        self.smallest = torch.minimum(self.smallest, features.amin(dim=0))

    def compute(self) -> Tensor:
        """Return the measure, float64; NaN where no feature changes."""
        smallest = torch.where(self.smallest.isfinite(), self.smallest, 0.0)
        above = self.sums - self.images[:, None] * smallest
        total = above.sum(dim=0)
        # what rounding leaves of a feature that never changes
        changes = total > 1e-12 * (self.sums.abs().sum(dim=0) + smallest.abs())
        shares = above[:, changes] / total[changes]
        return 1 - shares.amax(dim=0).mean() if self.num_classes else shares.sum() * torch.nan
