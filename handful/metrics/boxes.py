"""Maps and boxes: masks of boxes, and IBA's ratio of a map's top pixels inside the box."""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_mask, as_tensor, check_real
from handful.errors import UserError
from handful.metrics.localisation import checked_maps_and_masks
from handful.metrics.means import MeanWhereDefined


def box_masks(boxes: Any, size: tuple[int, int]) -> Tensor:
    """Return the masks of boxes, bool `(N, H, W)`, for every measure that takes masks.

    Args:
        boxes: `(N, 4)`: left, top, right, bottom in pixels, the right and bottom edge outside. What lies beyond the
            image is cut off; an empty box gives an empty mask.
        size: `(H, W)`.

    Raises:
        UserError: another shape, or numbers that are not finite.

    Example:
        >>> box_masks([[1, 0, 3, 1]], (2, 3)).int()
        tensor([[[0, 1, 1],
                 [0, 0, 0]]], dtype=torch.int32)
    """
    given = as_tensor(boxes, "boxes")
    if given.ndim != 2 or given.shape[1] != 4 or given.is_complex() or not bool(given.double().isfinite().all()):
        raise UserError(f"boxes: expected finite (N, 4), left, top, right, bottom, got {tuple(given.shape)}")
    left, top, right, bottom = given[:, :, None].unbind(1)
    rows, columns = torch.arange(size[0], device=given.device), torch.arange(size[1], device=given.device)
    return ((rows >= top) & (rows < bottom))[:, :, None] & ((columns >= left) & (columns < right))[:, None]


def box_ratio(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the share of each map's top n pixels that lie in its mask of n pixels, float64 `(N,)` in [0, 1].

    Pixels of equal value count in proportion, so that a constant map has the mask's share of the image. NaN for an
    empty mask. No forward pass.

    Args:
        maps: `(N, H, W)`.
        masks: `(N, H, W)` of boxes (`box_masks`) or of anything else; see `handful.conversions.as_mask`.

    Raises:
        UserError: other shapes, a map that is not finite, or a mask of more than two values.

    Source: Schulz et al. 2020, "Restricting the Flow" (arXiv 2001.00396), section 4.4.

    Example:
        >>> box_ratio(torch.tensor([[[4.0, 3.0], [1.0, 0.0]]]), torch.tensor([[[True, False], [True, False]]]))
        tensor([0.5000], dtype=torch.float64)
    """
    maps, masks = checked_maps_and_masks(maps, masks)
    values, inside = maps.detach().flatten(1), masks.flatten(1)
    count = inside.sum(dim=1, keepdim=True)
    ordered = values.sort(dim=1, descending=True).values
    threshold = ordered.gather(1, (count - 1).clamp_min(0))
    above, equal = values > threshold, values == threshold
    free = count - above.sum(dim=1, keepdim=True)
    share = free.double() / equal.sum(dim=1, keepdim=True)
    hits = (above & inside).sum(dim=1, keepdim=True) + share * (equal & inside).sum(dim=1, keepdim=True)
    return (hits / count)[:, 0].masked_fill(count[:, 0] == 0, torch.nan)


class BoxRatio(MeanWhereDefined):
    """Average `box_ratio` over images whose mask is neither empty nor large.

    Args:
        max_share: of the image that a mask may cover; images of larger ones are left out.

    Example:
        >>> metric = BoxRatio()
        >>> metric.update(torch.eye(2)[None], torch.tensor([[[True, False], [False, False]]]))
        >>> float(metric.compute())
        0.5
    """

    higher_is_better = True

    def __init__(self, max_share: float = 0.33, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_share = check_real("max_share", max_share, 0, 1, open_below=True)

    def update(self, maps: Tensor, masks: Tensor) -> None:  # type: ignore[override]
        """Add maps `(N, H, W)` and masks `(N, H, W)`."""
        large = as_mask(masks).flatten(1).double().mean(dim=1) > self.max_share
        ratios = box_ratio(maps, masks)
        super().update(ratios.masked_fill(large.to(ratios.device), torch.nan))
