"""One pass over the images: how often a feature is among the strongest of a class, and how strong it is."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from handful.conversions import as_float, as_labels
from handful.errors import UserError
from handful.filters.ranking import by_strength, check_k1


class FeatureStatistics:
    """Statistics of the features of every class over one pass over the images.

    Attributes:
        k1s: K values, whole numbers (features per image) or shares of the L1 mass in (0, 1).
        counts: `(K, C, F)` int64, images of class c in which feature f is among the strongest `k1`.
        sums: `(C, F)` float64, sum of the pooled feature over the images of the class.
        images: `(C,)` int64.

    Example:
        >>> collector = StatisticsCollector(num_classes=2, num_features=3, k1s=(1,))
        >>> collector.update(torch.tensor([[5.0, 1.0, 0.0], [0.0, 2.0, 4.0]]), torch.tensor([0, 1]))
        >>> collector.compute().frequencies(1).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """

    def __init__(self, k1s: Sequence[float], counts: Tensor, sums: Tensor, images: Tensor) -> None:
        self.k1s = tuple(k1s)
        self.counts = counts
        self.sums = sums
        self.images = images

    @property
    def num_classes(self) -> int:
        """C."""
        return self.sums.shape[0]

    @property
    def num_features(self) -> int:
        """F."""
        return self.sums.shape[1]

    def counts_of(self, k1: float) -> Tensor:
        """The histogram `(C, F)` int64 of one `k1`.

        Raises:
            UserError: this `k1` was not counted.
        """
        if k1 not in self.k1s:
            raise UserError(f"k1 {k1} was not counted; counted were {', '.join(map(str, self.k1s))}")
        return self.counts[self.k1s.index(k1)]

    def frequencies(self, k1: float) -> Tensor:
        """Share `(C, F)` float64 in [0, 1] of a class's images in which the feature is among the strongest `k1`."""
        return self.counts_of(k1).double() / self.images.clamp(min=1).unsqueeze(1)

    def kept(self, k1: float) -> Tensor:
        """Mean number `(C,)` float64 of features counted per image; `k1` itself where `k1` is a whole number."""
        return self.frequencies(k1).sum(dim=1)

    def means(self) -> Tensor:
        """Mean pooled feature `(C, F)` float64 over the images of the class."""
        return self.sums / self.images.clamp(min=1).unsqueeze(1)

    def only(self, k1s: Sequence[float]) -> "FeatureStatistics":
        """The same with fewer `k1s`; values that were not counted are left out."""
        kept = [i for i, k1 in enumerate(self.k1s) if k1 in k1s]
        return FeatureStatistics([self.k1s[i] for i in kept], self.counts[kept], self.sums, self.images)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values, for a file; `from_state` restores them."""
        return {"k1s": list(self.k1s), "counts": self.counts, "sums": self.sums, "images": self.images}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "FeatureStatistics":
        """The inverse of `state`."""
        return cls(state["k1s"], state["counts"], state["sums"], state["images"])


class StatisticsCollector(Metric):
    """Collects `FeatureStatistics` batch by batch, on any number of processes.

    Only sums cross from one process to another, so neither the order of the images nor their distribution over
    batches and processes matters. A share `k1` in (0, 1) counts, in every image, the fewest strongest features
    that carry at least this share of its L1 mass.

    Args:
        num_classes: C.
        num_features: F.
        k1s: the values of `k1` counted in the one pass.

    Raises:
        UserError: a `k1` out of range.

    Source: arXiv 2112.07719, the algorithm's histogram step; the variant by share is in the authors' code.

    Example:
        >>> collector = StatisticsCollector(num_classes=2, num_features=3, k1s=(1,))
        >>> collector.update(torch.tensor([[5.0, 1.0, 0.0], [0.0, 2.0, 4.0]]), torch.tensor([0, 1]))
        >>> collector.compute().means()[1].tolist()
        [0.0, 2.0, 4.0]
    """

    full_state_update = False
    counts: Tensor
    sums: Tensor
    images: Tensor

    def __init__(self, num_classes: int, num_features: int, k1s: Sequence[float] = (5,)) -> None:
        super().__init__()
        if not isinstance(k1s, Sequence) or isinstance(k1s, str):
            raise UserError(f"k1s: expected a sequence of values of k1, got {k1s!r}")
        self.k1s = tuple(check_k1(k1, num_features) for k1 in k1s)
        shape = (num_classes, num_features)
        self.add_state("counts", torch.zeros(len(self.k1s), *shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Take pooled features `(B, F)` of images with labels int64 `(B,)`.

        Raises:
            UserError: features or labels of another shape, or labels out of range.
        """
        num_classes, width = self.sums.shape
        features = as_float(features, (None, width), "features").detach()
        labels = as_labels(labels, len(features), num_classes).to(features.device)
        order = by_strength(features)
        num_features = features.shape[1]
        for k1, counts in zip(self.k1s, self.counts, strict=True):
            if isinstance(k1, int):
                cells = labels.unsqueeze(1) * num_features + order[:, :k1]
            else:
                cells = (labels.unsqueeze(1) * num_features + order)[_within_share(features, order, k1)]
            cells = cells.flatten()
            counts.view(-1).index_add_(0, cells, torch.ones_like(cells))
        self.sums.index_add_(0, labels, features.double())
        self.images.index_add_(0, labels, torch.ones_like(labels))

    def compute(self) -> FeatureStatistics:
        """The statistics over all images of all processes, on the CPU; every process must call it."""
        counts, sums, images = (state.detach().clone().cpu() for state in (self.counts, self.sums, self.images))
        return FeatureStatistics(self.k1s, counts, sums, images)


def with_weights_of_absent(statistics: FeatureStatistics, weight: Tensor) -> FeatureStatistics:
    """Statistics in which classes without images have, in place of counts and sums, the order of their weights.

    Every rule then gives these classes the filters of their largest signed weights, the closest to the paper's rule
    that needs no images. The number of their images counts as one.

    Args:
        statistics: of some classes.
        weight: `(C, F)`, of the last layer.

    Example:
        >>> none = torch.zeros(1, 2, dtype=torch.int64)
        >>> empty = FeatureStatistics((1,), none[None], none.double(), torch.tensor([0]))
        >>> with_weights_of_absent(empty, torch.tensor([[0.5, 2.0]])).counts.tolist()
        [[[0, 1]]]
    """
    absent = statistics.images == 0
    order = weight.detach().cpu().argsort(dim=1, stable=True).argsort(dim=1)  # 0 for the smallest weight
    counts = torch.where(absent[None, :, None], order, statistics.counts)
    sums = torch.where(absent[:, None], order.double(), statistics.sums)
    images = torch.where(absent, 1, statistics.images)
    return FeatureStatistics(statistics.k1s, counts, sums, images)


def _within_share(features: Tensor, order: Tensor, share: float) -> Tensor:
    """Mask `(B, F)` in the given order: as long as the mass before a feature is short of the share, it counts."""
    # on the CPU, which adds up in the order of the features: a GPU does not, and its last digits are others
    mass = features.abs().double().gather(1, order).cpu()
    before = mass.cumsum(dim=1) - mass
    # the sum in the same order as the cumulated one, so that a share close to 1 ends at the last feature
    return (before < share * (before[:, -1:] + mass[:, -1:])).to(features.device)
