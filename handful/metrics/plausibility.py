"""Plausibility: do the features that decide look at the object?"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from handful.conversions import as_float, as_mask, check_whole
from handful.errors import UserError
from handful.metrics.finite import as_feature_maps, as_finite, predicted_weights
from handful.metrics.plotted import PlottedMetric


def activation_inside(maps: Tensor, masks: Tensor, dilation: int = 0) -> Tensor:
    """Return the share of each map's positive activation inside a mask, float64 `(B, S)`.

    A position of a map counts by the share of its pixels that the mask covers.

    Args:
        maps: `(B, S, h, w)`.
        masks: bool `(B, H, W)`, of any size; other types see `handful.conversions.as_mask`.
        dilation: pixels by which the masks grow on all sides.

    Returns:
        NaN for maps without positive activation and for empty masks.

    Raises:
        UserError: shapes that do not fit one another, or maps that are not finite.

    Example:
        >>> maps = torch.tensor([[[[3.0, 1.0]]]])
        >>> activation_inside(maps, torch.tensor([[[True, True, False, False]]])).tolist()
        [[0.75]]
    """
    maps = as_feature_maps(maps, None, None).double().clamp(min=0)
    masks = as_mask(masks).to(maps.device)
    check_whole("dilation", dilation, 0)
    if len(masks) != len(maps):
        raise UserError(f"masks: expected {len(maps)} of them, one per image, got {len(masks)}")
    if not masks.numel():
        return torch.full(maps.shape[:2], torch.nan, dtype=torch.float64, device=maps.device)
    covered = masks.double()[:, None]
    if dilation:
        covered = functional.max_pool2d(covered, 2 * dilation + 1, stride=1, padding=dilation)
    covered = functional.adaptive_avg_pool2d(covered, (maps.shape[2], maps.shape[3]))
    # by the largest value of a map, so that sums neither overflow nor vanish
    maps = maps / maps.flatten(2).amax(dim=2)[..., None, None].clamp(min=torch.finfo(torch.float64).tiny)
    total = maps.sum(dim=(2, 3))
    share = (maps * covered).sum(dim=(2, 3)) / total
    defined = (total > 0) & (covered.flatten(1).amax(dim=1) > 0)[:, None]
    return share.where(defined, torch.nan)


class Plausibility(PlottedMetric):
    """Measure the mean share of the deciding features' activation that lies inside the object's mask.

    Over the features with a weight in the predicted class first, then over images. In [0, 1]. Images with an empty
    mask, and maps without positive activation, do not count.

    Args:
        dilation: pixels by which the masks grow on all sides.

    Source: DINO-QPM (CVPRW 2026), "plausibility", on dilated segmentations of CUB.

    Example:
        >>> metric = Plausibility()
        >>> mask = torch.tensor([[[True, False], [True, False]]])
        >>> metric.update(torch.ones(1, 2, 2, 2), torch.tensor([[0.0, 1.0]]), torch.eye(2), mask)
        >>> float(metric.compute())
        0.5
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    total: Tensor
    count: Tensor

    def __init__(self, dilation: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dilation = check_whole("dilation", dilation, 0)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, logits: Tensor, weight: Tensor, masks: Tensor) -> None:
        """Add a batch.

        Args:
            maps: `(B, S, h, w)`, the maps that the head looks at.
            logits: `(B, C)`.
            weight: `(C, S)`, the head's weights for these maps.
            masks: bool `(B, H, W)`.

        Raises:
            UserError: shapes that do not fit one another; maps or weights that are not finite; NaN logits.
        """
        logits, weight = as_float(logits, (None, None), "logits"), as_finite(weight, (None, None), "weight")
        if bool(logits.isnan().any()):  # infinite ones are of classes that are left out
            raise UserError(f"logits: row {int(logits.isnan().any(dim=1).nonzero()[0])} holds NaN")
        maps = as_feature_maps(maps, None, None)
        rows = predicted_weights(maps, logits, weight, "maps")
        shares = activation_inside(maps, masks, self.dilation).where(rows != 0, torch.nan)
        means = shares.nanmean(dim=1)
        self.total += means.nansum()
        self.count += (~means.isnan()).sum()

    def compute(self) -> Tensor:
        """Return the mean, float64; NaN where no image counted."""
        return self.total / self.count
