"""diversity@k: do the features that decide look at different positions?"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_float, check_whole
from handful.errors import UserError
from handful.metrics.finite import predicted_weights, refuse_without_positions
from handful.metrics.plotted import PlottedMetric


@dataclass(frozen=True)
class StrongestMaps:
    """The maps that decide most in each image, strongest first.

    Attributes:
        maps: float64 `(B, k, h·w)`; k is smaller where there are fewer maps.
        counts: int64 `(B, 1)`, how many weights of the predicted class are not zero.
        undefined: bool `(B, 1)`, whether a logit or a weight is NaN.
    """

    maps: Tensor
    counts: Tensor
    undefined: Tensor


def strongest_maps(maps: Tensor, logits: Tensor, weight: Tensor, k: int) -> StrongestMaps:
    """Take the k maps with the largest signed weights for each image's predicted class.

    Args:
        maps: `(B, S, h, w)`, the maps the head looks at.
        logits: `(B, C)`.
        weight: `(C, S)`, the head's weights for these maps.
        k: how many.

    Raises:
        UserError: shapes that do not fit one another, maps without a position.

    Example:
        >>> maps = torch.arange(3.0).reshape(1, 3, 1, 1)
        >>> strongest_maps(maps, torch.tensor([[1.0]]), torch.tensor([[0.0, 3.0, 5.0]]), 2).maps.flatten().tolist()
        [2.0, 1.0]
    """
    maps = as_float(maps, (None, None, None, None), "maps")
    refuse_without_positions(maps)
    rows = predicted_weights(maps, logits, weight, "maps")
    strongest = rows.topk(min(k, rows.shape[1]), dim=1).indices
    images = torch.arange(len(maps), device=maps.device)[:, None]
    return StrongestMaps(
        maps.flatten(2)[images, strongest].double(),
        (rows != 0).sum(dim=1, keepdim=True),
        rows.isnan().any(dim=1, keepdim=True),
    )


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

    def update(self, maps: Tensor | StrongestMaps, logits: Tensor | None = None, weight: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            maps: `(B, S, h, w)`, the maps the head looks at; or `strongest_maps` of k or more, for several metrics.
            logits: `(B, C)`; with maps.
            weight: `(C, S)`, the head's weights for these maps; with maps.

        Raises:
            UserError: shapes that do not fit one another, maps without a position.
        """
        if isinstance(maps, StrongestMaps):
            found = maps
        elif logits is None or weight is None:
            raise UserError("logits and weight: they say which of the maps decide")
        else:
            found = strongest_maps(maps, logits, weight, self.k)
        k = min(self.k, found.maps.shape[1])
        shares = torch.softmax(self._scaled(found.maps[:, :k]), dim=2)
        largest = shares[:, 0]
        sums = [largest.sum(dim=1)]
        for i in range(1, k):
            largest = torch.maximum(largest, shares[:, i])
            sums.append(largest.sum(dim=1))
        running = torch.stack(sums, dim=1).masked_fill(found.undefined, torch.nan)
        steps = torch.arange(1, k + 1, device=running.device)
        enough = found.counts >= steps
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
