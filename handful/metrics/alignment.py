"""Feature–attribute alignment: which attribute does a feature follow?"""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_double, as_float, as_tensor, check_real, check_whole
from handful.metrics.finite import as_finite
from handful.metrics.plotted import PlottedMetric
from handful.metrics.presence import as_presence

#: A feature stands for an attribute if it has a weight in every class of which more images than this share have it.
COMMON = 0.3


class AttributeAlignment(PlottedMetric):
    """Measure how much larger each feature is on images that have an attribute.

    Per feature and attribute, `(mean with it − mean without it) / (mean − minimum)`; the score is the mean over
    features of the largest value of any attribute. 0 where features know nothing of the attributes; unbounded above.

    Presence may be a probability or a share, such as that of the image's class: means are then weighted by it.
    Attributes that all images have, or none, and features that never change do not count.

    Args:
        num_features: S.
        num_attributes: A.

    Source: Norrenbrock et al., "Take 5" (arXiv 2303.13166), figure 3b, and the authors' code (there on the training
    images, with annotations of certainty 3 and above).

    Example:
        >>> metric = AttributeAlignment(num_features=1, num_attributes=2)
        >>> metric.update(torch.tensor([[4.0], [0.0]]), torch.tensor([[1, 0], [0, 1]]))
        >>> metric.matrix().tolist(), float(metric.compute())
        ([[2.0], [-2.0]], 2.0)
    """

    higher_is_better = True
    with_sums: Tensor
    with_counts: Tensor
    sums: Tensor
    counts: Tensor
    all_sums: Tensor
    images: Tensor
    smallest: Tensor

    def __init__(self, num_features: int, num_attributes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_features = num_features = check_whole("num_features", num_features, 0)
        self.num_attributes = num_attributes = check_whole("num_attributes", num_attributes, 0)
        for name, shape in (
            ("with_sums", (num_attributes, num_features)),
            ("with_counts", (num_attributes,)),
            ("sums", (num_attributes, num_features)),
            ("counts", (num_attributes,)),
            ("all_sums", (num_features,)),
            ("images", ()),
        ):
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("smallest", torch.full((num_features,), torch.inf, dtype=torch.float64), dist_reduce_fx="min")

    def update(self, features: Tensor, present: Tensor, certain: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            features: `(B, S)`.
            present: `(B, A)`, bool or in [0, 1]: whether, or how likely, each image has each attribute.
            certain: bool `(B, A)`, the annotations that count; all where None.

        Raises:
            UserError: shapes that do not fit one another, features that are not finite, or as `as_presence`.
        """
        features = as_finite(features, (None, self.num_features), "features").double()
        found = as_presence(present, certain, len(features), self.num_attributes)
        present, valid = (values.to(features.device) for values in found)
        self.with_sums += present.T @ features
        self.with_counts += present.sum(dim=0)
        self.sums += valid.T @ features
        self.counts += valid.sum(dim=0)
        self.all_sums += features.sum(dim=0)
        self.images += len(features)
        if len(features):
            self.smallest = torch.minimum(self.smallest, features.amin(dim=0))

    def compute(self) -> Tensor:
        """Return the score, float64; NaN where no attribute divides the images or no feature changes."""
        matrix = self._matrix()
        usable = torch.where(matrix.isnan(), -torch.inf, matrix)
        best = usable.amax(dim=0) if len(usable) else torch.full((1,), -torch.inf)
        return torch.where(best.isfinite(), best, torch.nan).nanmean()

    def matrix(self) -> Tensor:
        """Return the whole matrix `(A, S)`, over all ranks; NaN where it is not defined."""
        with self.sync_context():
            return self._matrix()

    def _matrix(self) -> Tensor:
        without_counts = self.counts - self.with_counts
        means = self.with_sums / self.with_counts[:, None]
        difference = means - (self.sums - self.with_sums) / without_counts[:, None]
        mean = self.all_sums / self.images
        above = mean - self.smallest
        matrix = difference / torch.where(above > 1e-12 * (mean.abs() + self.smallest.abs()), above, torch.nan)
        # what rounding leaves of attributes that all images have
        divides = (self.with_counts > 0) & (without_counts > 1e-9 * self.counts)
        return matrix.where(divides[:, None], torch.nan)


def stands_for(weight: Tensor, class_attributes: Tensor, common: float = COMMON) -> Tensor:
    """Whether a feature has a non-zero weight in all classes in which an attribute is common, bool `(S, A)`.

    Args:
        weight: `(C, S)`.
        class_attributes: `(C, A)`, the share of each class's images that have the attribute, in [0, 1].
        common: the share above which it is common; attributes that are common in no class give False.

    Raises:
        UserError: other numbers of classes, or `common` outside [0, 1].

    Source: Norrenbrock et al., "Take 5" (arXiv 2303.13166), section 4.4: "non-zero weight in all classes where over
    30 % of images have the attribute".

    Example:
        >>> stands_for(torch.tensor([[1.0, 0.0], [2.0, 1.0]]), torch.tensor([[0.9], [0.4]]))
        tensor([[ True],
                [False]])
    """
    check_real("common", common, 0, 1)
    weight = as_float(weight, (None, None), "weight")
    shares = as_tensor(class_attributes, "class_attributes")
    if not shares.is_floating_point():
        shares = as_double(shares, (len(weight), None), "class_attributes")
    as_float(shares, (len(weight), None), "class_attributes")
    is_common = shares.to(weight.device) > common
    missing = (weight == 0).double().T @ is_common.double()  # classes that have the attribute and not the feature
    return (missing == 0) & is_common.any(dim=0)
