"""Dependence: how much of a decision depends on its strongest feature."""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_float
from handful.metrics.finite import predicted_weights
from handful.metrics.plotted import PlottedMetric


class Dependence(PlottedMetric):
    """Measure the mean share of the largest contribution: `max_j |f_j w_ĉj| / Σ_j |f_j w_ĉj|`, ĉ the predicted class.

    On un-normalised pooled features, in [1/S, 1]; lower means that a decision rests on more features. Images
    whose contributions are all zero do not count; features that are not finite, and logits that are NaN, make the
    result NaN.

    Source: Norrenbrock et al., Q-SENN (AAAI 2024), "dependence", as in the authors' code (there on the training
    images).

    Example:
        >>> metric = Dependence()
        >>> logits, weight = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> metric.update(torch.tensor([[1.0, 3.0]]), logits, weight)
        >>> float(metric.compute())
        0.75
    """

    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, features: Tensor, logits: Tensor, weight: Tensor) -> None:
        """Add a batch.

        Args:
            features: `(B, S)`, those that the head looks at.
            logits: `(B, C)`.
            weight: `(C, S)`, the head's weights for these features.

        Raises:
            UserError: shapes that do not fit one another.
        """
        features = as_float(features, (None, None), "features")
        shares = (features * predicted_weights(features, logits, weight, "features")).double().abs()
        sums = shares.sum(dim=1)
        counts = sums != 0  # NaN counts, so that the result says it
        self.total += (shares.amax(dim=1)[counts] / sums[counts]).sum()
        self.count += counts.sum()

    def compute(self) -> Tensor:
        """Return the mean in [1/S, 1], float64; NaN where no image counted."""
        return self.total / self.count
