"""Does an attribution map lie on the part it should? Needs masks of the part."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from handful.conversions import as_maps, as_mask, check_whole
from handful.errors import UserError
from handful.metrics.means import Mean
from handful.metrics.similarity import is_constant


def energy_in_mask(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the share of each map's positive mass inside its mask, `(N,)` in [0, 1].

    0 for a map without positive mass; NaN for an empty mask, which no map can hit.

    Args:
        maps: `(N, H, W)`; negative values count as 0.
        masks: bool `(N, H, W)`; other types see `handful.conversions.as_mask`.

    Raises:
        UserError: other shapes, a map that is not finite, or a mask of more than two values.

    Source: energy-based pointing game (Wang et al. 2020, Score-CAM, arXiv 1910.01279, section 4.3).

    Example:
        >>> maps = torch.tensor([[[3.0, 1.0], [0.0, -2.0]]])
        >>> energy_in_mask(maps, torch.tensor([[[True, False], [False, True]]]))
        tensor([0.7500], dtype=torch.float64)
    """
    maps, masks = checked_maps_and_masks(maps, masks)
    mass = maps.double().clamp(min=0).flatten(1)
    # by a power of two, which changes no digit: sums neither overflow nor vanish
    mass = torch.ldexp(mass, -torch.frexp(mass.amax(dim=1, keepdim=True)).exponent.clamp(-1000, 1000))
    inside = (mass * masks.flatten(1)).sum(dim=1)
    total = mass.sum(dim=1)
    share = torch.where(total > 0, inside / total.clamp(min=torch.finfo(total.dtype).tiny), torch.zeros_like(total))
    return share.masked_fill(~masks.flatten(1).any(dim=1), torch.nan)


def pointing_hits(maps: Tensor, masks: Tensor, tolerance: int = 0) -> Tensor:
    """Return whether each map's maximum lies in its mask or at most `tolerance` pixels from it, bool `(N,)`.

    A map that is constant but for rounding points nowhere and misses; an empty mask is never hit. Of equal maxima the
    first in reading order counts.

    Raises:
        UserError: as `energy_in_mask`; a tolerance that is not a whole number, or below 0.

    Source: Zhang et al. 2016 (arXiv 1608.00507), section 4; there the tolerance is 15 px.

    Example:
        >>> maps = torch.tensor([[[3.0, 1.0], [0.0, 0.0]]])
        >>> pointing_hits(maps, torch.tensor([[[True, False], [False, False]]]))
        tensor([True])
    """
    check_whole("tolerance", tolerance, 0)
    maps, masks = checked_maps_and_masks(maps, masks)
    flat = maps.flatten(1)
    peak = flat.argmax(dim=1)
    height, width = maps.shape[1:]
    if tolerance:
        rows = torch.arange(-tolerance, tolerance + 1, device=maps.device)
        disc = ((rows[:, None] ** 2 + rows**2) <= tolerance**2).float()[None, None]
        masks = functional.conv2d(masks.float().reshape(-1, 1, height, width), disc, padding=tolerance)[:, 0] > 0.5
    hit = masks.flatten(1).gather(1, peak[:, None])[:, 0]
    return hit & ~is_constant(flat)


def area_above_half(maps: Tensor) -> Tensor:
    """Return the share of pixels at or above half of each map's maximum, `(N,)`; 1 for a flat or empty map.

    Example:
        >>> area_above_half(torch.tensor([[[4.0, 2.0], [1.0, 0.0]]]))
        tensor([0.5000], dtype=torch.float64)
    """
    flat = as_maps(maps).flatten(1)
    top = flat.amax(dim=1, keepdim=True)
    share = (flat >= top / 2).double().mean(dim=1)
    return torch.where(top[:, 0] > 0, share, torch.ones_like(share))


class EnergyInMask(Mean):
    """Average `energy_in_mask` over the images whose mask is not empty.

    Example:
        >>> metric = EnergyInMask()
        >>> metric.update(torch.ones(1, 2, 2), torch.tensor([[[True, False], [False, False]]]))
        >>> float(metric.compute())
        0.25
    """

    higher_is_better = True

    def update(self, maps: Tensor, masks: Tensor) -> None:  # type: ignore[override]
        """Add maps `(N, H, W)` and masks bool `(N, H, W)`."""
        shares = energy_in_mask(maps, masks)
        super().update(shares[~shares.isnan()])


class PointingGame(Mean):
    """Measure the share of maps that point at their mask, over the images whose mask is not empty.

    See `pointing_hits`.

    Args:
        tolerance: in pixels.

    Example:
        >>> metric = PointingGame()
        >>> metric.update(torch.eye(2)[None], torch.tensor([[[True, False], [False, False]]]))
        >>> float(metric.compute())
        1.0
    """

    higher_is_better = True

    def __init__(self, tolerance: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tolerance = check_whole("tolerance", tolerance, 0)

    def update(self, maps: Tensor, masks: Tensor) -> None:  # type: ignore[override]
        """Add maps `(N, H, W)` and masks bool `(N, H, W)`."""
        hits = pointing_hits(maps, masks, self.tolerance)
        super().update(hits[as_mask(masks).flatten(1).any(dim=1).to(hits.device)])


class AreaAboveHalf(Mean):
    """Average `area_above_half` over images.

    Example:
        >>> metric = AreaAboveHalf()
        >>> metric.update(torch.eye(2)[None])
        >>> float(metric.compute())
        0.5
    """

    higher_is_better = False

    def update(self, maps: Tensor) -> None:
        """Add maps `(N, H, W)`."""
        super().update(area_above_half(maps))


def checked_maps_and_masks(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps and bool masks, both `(N, H, W)` on the maps' device, or refuse them in one sentence."""
    maps, masks = as_maps(maps), as_mask(masks)
    if maps.shape != masks.shape:
        raise UserError(f"maps and masks must both be (N, H, W), not {tuple(maps.shape)} and {tuple(masks.shape)}")
    return maps, masks.to(maps.device)
