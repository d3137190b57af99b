"""diversity@k: do the features that decide look at different positions?"""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_float, check_whole
from handful.metrics.finite import predicted_weights, refuse_without_positions
from handful.metrics.plotted import PlottedMetric


class DiversityAtK(PlottedMetric):
    """Measure diversity@1 … diversity@k in one pass.

    For an image of predicted class ĉ: the maps of the k features with the largest *signed* weight of ĉ become
    distributions over spatial positions (softmax); at each the largest counts; the sum over positions is divided
    by k. Only images whose predicted class has at least k non-zero weights count, and all such images do. Maps that are
    not finite, and logits and weights that are NaN, make the result NaN.

    The formula printed in the paper lacks the division and so lies in [1, k]; this is the authors' code's, in
    [1/k, 1]: 1/k for equal or flat maps, 1 for maps that peak at different positions.

    Args:
        k: the largest k; all from 1 to k are computed.

    Source: Norrenbrock et al., "Take 5" (arXiv 2303.13166), diversity@k; normalised as in their later code.

    Example:
        >>> metric = DiversityAtK(k=2)
        >>> maps = 50 * torch.eye(4).reshape(1, 4, 2, 2)  # four features that peak at four positions
        >>> metric.update(maps, torch.tensor([[1.0, 0.0]]), torch.ones(2, 4))
        >>> {name: round(float(value), 3) for name, value in metric.compute().items()}
        {'diversity@1': 1.0, 'diversity@2': 1.0}
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    #: How a value is called, before its k.
    prefix = "diversity"
    total: Tensor
    count: Tensor

    def __init__(self, k: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k = check_whole("k", k, 1)
        self.add_state("total", torch.zeros(k, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(k, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, logits: Tensor, weight: Tensor) -> None:
        """Add a batch.

        Args:
            maps: `(B, S, h, w)`, the maps the head looks at.
            logits: `(B, C)`.
            weight: `(C, S)`, the head's weights for these maps.

        Raises:
            UserError: shapes that do not fit one another, maps without a position.
        """
        maps = as_float(maps, (None, None, None, None), "maps")
        refuse_without_positions(maps)
        rows = predicted_weights(maps, logits, weight, "maps")
        k = min(self.k, rows.shape[1])
        strongest = rows.topk(k, dim=1).indices
        images = torch.arange(len(maps), device=maps.device)[:, None]
        chosen = maps.flatten(2)[images, strongest].double()
        shares = torch.softmax(self._scaled(chosen), dim=2)
        largest = shares[:, 0]
        sums = [largest.sum(dim=1)]
        for i in range(1, k):
            largest = torch.maximum(largest, shares[:, i])
            sums.append(largest.sum(dim=1))
        running = torch.stack(sums, dim=1).masked_fill(rows.isnan().any(dim=1, keepdim=True), torch.nan)
        steps = torch.arange(1, k + 1, device=maps.device)
        enough = (rows != 0).sum(dim=1, keepdim=True) >= steps
        self.total[:k] += (running / steps * enough).sum(dim=0)
        self.count[:k] += enough.sum(dim=0)

    def compute(self) -> dict[str, Tensor]:
        """Return `{"diversity@1": …, …}`, float64; NaN where no image's class has that many weights."""
        values = self.total / self.count
        return {f"{self.prefix}@{i + 1}": values[i] for i in range(self.k)}

    def _scaled(self, maps: Tensor) -> Tensor:
        """The maps `(B, k, h·w)` as the softmax gets them."""
        return maps


class ScaleInvariantDiversity(DiversityAtK):
    """Measure SID@1 … SID@k: diversity@k of maps that are divided by their mean absolute activation before.

    So a network cannot raise it by larger activations alone. The mean is that of each map in each image, at least 1e-5.

    Args:
        k: the largest k; all from 1 to k are computed.

    Source: Norrenbrock et al., QPM (ICLR 2025), "SID@5", as in the authors' code.

    Example:
        >>> maps = torch.rand(1, 2, 3, 3)
        >>> values = []
        >>> for scale in (1, 64):
        ...     metric = ScaleInvariantDiversity(k=2)
        ...     metric.update(scale * maps, torch.tensor([[1.0, 0.0]]), torch.ones(2, 2))
        ...     values.append(float(metric.compute()["sid@2"]))
        >>> values[0] == values[1]
        True
    """

    prefix = "sid"

    def _scaled(self, maps: Tensor) -> Tensor:
        return maps / maps.abs().mean(dim=2, keepdim=True).clamp(min=1e-5)
