"""Accuracy in which every class counts the same, however many images it has."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from handful.conversions import as_labels, check_whole
from handful.metrics.plotted import PlottedMetric


class BalancedAccuracy(PlottedMetric):
    """Mean over the classes of the share of a class's images that are recognised, in per cent.

    Keeps two integer counts per class, so that ranks add up exactly. Classes without images are left out.

    Args:
        num_classes: C.

    Source: Brodersen et al. 2010, "The balanced accuracy and its posterior distribution"; the macro-averaged recall.

    Example:
        >>> metric = BalancedAccuracy(num_classes=2)
        >>> metric.update(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1]))
        >>> float(metric.compute())
        50.0
    """

    higher_is_better = True
    recognised: Tensor
    images: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes = check_whole("num_classes", num_classes, 1)
        for name in ("recognised", "images"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Count images by their class.

        Args:
            predicted: int64 `(B,)`, predicted classes.
            labels: int64 `(B,)`, true classes.

        Raises:
            UserError: classes out of range, or two different numbers of them.
        """
        labels = as_labels(labels, num_classes=self.num_classes).to(self.images.device)
        predicted = as_labels(predicted, len(labels), self.num_classes, "predicted").to(labels.device)
        members = functional.one_hot(labels, self.num_classes)
        self.images += members.sum(dim=0)
        self.recognised += (members * (predicted == labels)[:, None]).sum(dim=0)

    def compute(self) -> Tensor:
        """Return the balanced accuracy in per cent, float64; NaN where nothing was counted."""
        present = self.images > 0
        return 100 * (self.recognised[present].double() / self.images[present]).mean()
