"""Structural grounding: do classes share features where they share attributes?"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from handful.conversions import as_double, as_labels, check_whole
from handful.metrics.finite import as_finite
from handful.metrics.plotted import PlottedMetric
from handful.metrics.presence import as_presence
from handful.metrics.similarity import rank_correlation

#: Pairs of classes that are compared: the published 50 entries of the symmetric matrix.
PAIRS = 25


def structural_grounding(weight: Tensor, class_attributes: Tensor, pairs: int = PAIRS) -> Tensor:
    """Compare the classes that share most attributes by their weights.

    The sum of the cosines of the weights of the `pairs` pairs of classes whose attributes are most alike, over the sum
    of the cosines of their attributes. 1 where weights are as alike as attributes; classes without a weight or an
    attribute are like none.

    Args:
        weight: `(C, S)`.
        class_attributes: `(C, A)`.
        pairs: all where there are fewer.

    Returns:
        float64; NaN where there is no pair, or no attribute is shared.

    Raises:
        UserError: other numbers of classes, or values that are not finite.

    Source: Norrenbrock et al., QPM (ICLR 2025), "structural grounding"; the authors' code takes the 50 largest entries
    of the symmetric matrix of CUB's classes, which are 25 pairs.

    Example:
        >>> attributes = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> weight = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> round(float(structural_grounding(weight, attributes, pairs=1)), 6)
        1.0
    """
    pairs = check_whole("pairs", pairs, 1)
    weight = as_finite(weight, (None, None), "weight").double()
    attributes = as_double(class_attributes, (len(weight), None), "class_attributes").to(weight.device)
    attributes = as_finite(attributes, (len(weight), None), "class_attributes")
    first, second = torch.triu_indices(len(weight), len(weight), offset=1, device=weight.device)
    alike = _cosines(attributes)[first, second]
    chosen = alike.argsort(descending=True, stable=True)[:pairs]
    total = alike[chosen].sum()
    return torch.where(total > 0, _cosines(weight)[first, second][chosen].sum() / total, torch.nan)


def grounding_correlation(weight: Tensor, class_attributes: Tensor) -> Tensor:
    """Return the rank correlation, over all pairs of classes, of how alike their weights and their attributes are.

    Cosines of both, of rows less their mean over the classes: a softmax classifier decides the same with any vector
    added to all rows of its weights, and this number does not depend on it, as `structural_grounding` does. In [−1, 1],
    0 where weights know nothing of attributes, whatever the number of classes.

    Args:
        weight: `(C, S)`.
        class_attributes: `(C, A)`.

    Returns:
        float64; 0 where all weights are equally alike, NaN where all attributes are, and below three classes.

    Raises:
        UserError: other numbers of classes, or values that are not finite.

    Source: our own.

    Example:
        >>> attributes = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
        >>> float(grounding_correlation(attributes + 5, attributes).round(decimals=6))
        1.0
    """
    weight = as_finite(weight, (None, None), "weight").double()
    attributes = as_double(class_attributes, (len(weight), None), "class_attributes").to(weight.device)
    attributes = as_finite(attributes, (len(weight), None), "class_attributes")
    if len(weight) < 3:
        return weight.new_full((), torch.nan)
    first, second = torch.triu_indices(len(weight), len(weight), offset=1, device=weight.device)
    alike = [_cosines(rows - rows.mean(dim=0))[first, second].round(decimals=12) for rows in (weight, attributes)]
    return rank_correlation(*alike)


def _cosines(rows: Tensor) -> Tensor:
    unit = functional.normalize(rows, dim=1)
    return unit @ unit.T


class StructuralGrounding(PlottedMetric):
    """Measure `structural_grounding` from images with attributes: those of a class are the means of its images'.

    Args:
        weight: `(C, S)`, of the head.
        num_attributes: A.
        pairs: of classes that are compared.

    Example:
        >>> metric = StructuralGrounding(torch.eye(2), num_attributes=1)
        >>> metric.update(torch.tensor([[1.0], [1.0]]), torch.tensor([0, 1]))
        >>> float(metric.compute())
        0.0
    """

    higher_is_better = True
    sums: Tensor
    counts: Tensor

    def __init__(self, weight: Tensor, num_attributes: int, pairs: int = PAIRS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weight = as_finite(weight, (None, None), "weight").detach()
        self.num_attributes = num_attributes = check_whole("num_attributes", num_attributes, 0)
        self.pairs = check_whole("pairs", pairs, 1)
        for name in ("sums", "counts"):
            zeros = torch.zeros(len(self.weight), num_attributes, dtype=torch.float64)
            self.add_state(name, zeros, dist_reduce_fx="sum")

    def update(self, present: Tensor, labels: Tensor, certain: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            present: `(B, A)`, bool or in [0, 1].
            labels: int64 `(B,)`.
            certain: bool `(B, A)`, the annotations that count; all where None.

        Raises:
            UserError: shapes that do not fit one another, labels out of range, or as `as_presence`.
        """
        labels = as_labels(labels, None, len(self.weight)).to(self.sums.device)
        shares, counts = as_presence(present, certain, len(labels), self.num_attributes)
        self.sums.index_add_(0, labels, shares.to(self.sums.device))
        self.counts.index_add_(0, labels, counts.to(self.sums.device))

    def compute(self) -> Tensor:
        """Return the measure, float64."""
        return structural_grounding(self.weight, self.sums / self.counts.clamp(min=1), self.pairs)
