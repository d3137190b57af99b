"""The accuracy of the decomposed layer for many k1 and k2 at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from handful.conversions import as_float, as_labels
from handful.filters.rules import Rule, select_filters
from handful.filters.statistics import FeatureStatistics
from handful.metrics.shaped import ShapedMetric
from handful.networks.decomposed import DecomposedHead


class AccuracyGrid(ShapedMetric):
    """Accuracy over `k1 × k2` from one pass over the features of a test set, on any number of processes.

    Every cell is a `DecomposedHead` cut from the same dense layer, so its accuracy is that of the head itself.

    Args:
        weight: `(C, F)` of the dense layer.
        bias: `(C,)`.
        statistics: of the images that choose the filters, with every `k1` that is wanted.
        k2s: the values of k2.
        rule: how the filters are chosen. Only `frequency` looks at k1.

    Example:
        >>> from handful.filters import StatisticsCollector
        >>> features, labels = torch.eye(3).repeat(4, 1), torch.arange(12) % 3
        >>> collector = StatisticsCollector(num_classes=3, num_features=3, k1s=(1,))
        >>> collector.update(features, labels)
        >>> grid = AccuracyGrid(torch.eye(3), torch.zeros(3), collector.compute(), k2s=(1, 2))
        >>> grid.update(features, labels)
        >>> grid.compute().tolist()
        [[100.0, 100.0]]
    """

    full_state_update = False
    correct: Tensor
    images: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        statistics: FeatureStatistics,
        k2s: Sequence[int],
        rule: Rule = "frequency",
    ) -> None:
        super().__init__()
        self.num_classes, self.num_features = as_float(weight, (None, None), "weight").shape
        self.k1s = statistics.k1s
        self.k2s = tuple(k2s)
        self.heads = nn.ModuleList(
            DecomposedHead.from_dense(weight, bias, select_filters(rule, k2, statistics, weight, k1))
            for k1 in self.k1s
            for k2 in self.k2s
        )
        self.add_state("correct", torch.zeros(len(self.heads), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Take pooled features `(B, F)` and labels int64 `(B,)`.

        Raises:
            UserError: features or labels of another shape, or labels out of range.
        """
        features = as_float(features, (None, self.num_features), "features")
        labels = as_labels(labels, len(features), self.num_classes).to(features.device)
        hits = [(head(features).argmax(dim=1) == labels).sum() for head in self.heads]
        self.correct += torch.stack(hits)
        self.images += len(labels)

    def compute(self) -> Tensor:
        """Accuracies `(K1, K2)` float64, in per cent; every process must call it."""
        return 100 * self.correct.double().view(len(self.k1s), len(self.k2s)) / self.images
