"""Empirical receptive fields: how much of the image does a unit really look at?"""

import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from handful.conversions import as_classes, check_real, check_whole
from handful.errors import UserError
from handful.metrics.finite import as_feature_maps, as_finite

#: Part of the largest change above which a position belongs to the field.
ABOVE = 0.5


@dataclass(frozen=True)
class ReceptiveField:
    """Where covering a small patch changes a unit.

    Attributes:
        change: float64 `(2·rows − 1, 2·columns − 1)`, mean change of the unit when the patch at a place of the grid is
            covered, the unit's own place in the middle; NaN where no image reached.
        stride: pixels between neighbouring places.
        size: side in pixels of a square as large as the area whose change is at least half of the largest; 0 where
            nothing changes.
        images: that were averaged.

    Example:
        >>> ReceptiveField(torch.ones(1, 1), stride=4, size=4.0, images=1).size
        4.0
    """

    change: Tensor
    stride: int
    size: float
    images: int


@torch.no_grad()
def receptive_field(
    feature_maps: Callable[[Tensor], Tensor],
    images: Tensor,
    unit: int | Sequence[int],
    patch: int = 7,
    stride: int = 3,
    above: float = ABOVE,
    chunk: int = 64,
) -> list[ReceptiveField]:
    """Measure the receptive fields of units on images in which they are active.

    A patch of the mean colour (0 after normalisation) is moved over each image; the change of the unit at the position
    of its largest activation is noted where the patch's middle was, moved so that the unit's own place comes to the
    middle, and averaged over the images. Takes `1 + rows · columns` forward passes per image, for all units together,
    with `rows = ceil(H / stride)`.

    Args:
        feature_maps: images `(N, C, H, W)` → maps `(N, F, h, w)`.
        images: `(N, C, H, W)`, normalised.
        unit: of the maps, or several.
        patch: side of the patch in pixels.
        stride: pixels by which it moves.
        above: part of the largest change that bounds the field.
        chunk: images in a forward pass.

    Returns:
        One field per unit, where no position is farther apart from another than in the theoretical receptive field and
        the patch together. Cells of the maps are taken to divide the image evenly, as they do with padding; without
        it, the field is blurred by as much as is lost at the border.

    Raises:
        UserError: numbers out of range, a unit that is none of the maps', images or maps that are not finite.

    Source: Zhou et al. 2015, "Object detectors emerge in deep scene CNNs" (arXiv 1412.6856), section 3.2.

    Example:
        >>> fields = receptive_field(torch.nn.Conv2d(1, 1, 3, padding=1), torch.rand(2, 1, 9, 9), 0, patch=1, stride=1)
        >>> fields[0].size <= 3
        True
    """
    units: list[int] = (
        [int(unit)] if isinstance(unit, numbers.Integral) else as_classes(unit, "unit").reshape(-1).tolist()
    )
    check_whole("patch", patch, 1)
    check_whole("stride", stride, 1)
    check_whole("chunk", chunk, 1)
    check_real("above", above, 0, 1, open_below=True)
    images = as_finite(images, (None, None, None, None), "images")
    if not images.numel():
        raise UserError(f"images: expected (N, C, H, W) with an image at least, got {tuple(images.shape)}")
    height, width = images.shape[2:]
    rows, columns = (torch.arange(0, side, stride) for side in (height, width))
    total = torch.zeros(len(units), 2 * len(rows) - 1, 2 * len(columns) - 1, dtype=torch.float64)
    count = torch.zeros_like(total)
    for image in images:
        found = as_feature_maps(feature_maps(image[None]), 1, None)
        units = [check_whole("unit", one, 0, found.shape[1] - 1) for one in units]
        maps = found[0, units]
        peak = maps.flatten(1).argmax(dim=1)
        before = maps.flatten(1).gather(1, peak[:, None])[:, 0]
        change = _changes(feature_maps, image, units, peak, before, rows, columns, patch, chunk).abs().double().cpu()
        place = _places(peak.cpu(), tuple(maps.shape[1:]), (height, width), stride)
        for number, (y, x) in enumerate(place):
            top, left = len(rows) - 1 - y, len(columns) - 1 - x
            total[number, top : top + len(rows), left : left + len(columns)] += change[number]
            count[number, top : top + len(rows), left : left + len(columns)] += 1
    mean = total / count
    return [ReceptiveField(one, stride, _side(one, above) * stride, len(images)) for one in mean]


def _changes(
    feature_maps: Callable[[Tensor], Tensor],
    image: Tensor,
    units: Sequence[int],
    peak: Tensor,
    before: Tensor,
    rows: Tensor,
    columns: Tensor,
    patch: int,
    chunk: int,
) -> Tensor:
    """Change of each unit `(U, rows, columns)` at its peak when the patch is there."""
    places = [(int(y), int(x)) for y in rows for x in columns]
    found = []
    for start in range(0, len(places), chunk):
        part = places[start : start + chunk]
        covered = image.expand(len(part), *image.shape).clone()
        for number, (y, x) in enumerate(part):
            top, left = max(0, y - patch // 2), max(0, x - patch // 2)
            covered[number, :, top : y - patch // 2 + patch, left : x - patch // 2 + patch] = 0
        maps = feature_maps(covered)[:, units].flatten(2)
        found.append(maps.gather(2, peak[None, :, None].expand(len(part), -1, 1))[:, :, 0] - before)
    return torch.cat(found).T.reshape(len(units), len(rows), len(columns))


def _places(peak: Tensor, grid: tuple[int, ...], size: tuple[int, int], stride: int) -> list[tuple[int, int]]:
    """Place of each peak on the grid of patches: the nearest one to the middle of its cell."""
    y = (peak // grid[1] + 0.5) * (size[0] / grid[0]) - 0.5
    x = (peak % grid[1] + 0.5) * (size[1] / grid[1]) - 0.5
    limits = [(side - 1) // stride for side in size]
    return [
        (min(limits[0], round(float(a) / stride)), min(limits[1], round(float(b) / stride)))
        for a, b in zip(y, x, strict=True)
    ]


def _side(change: Tensor, above: float) -> float:
    known = torch.where(change.isnan(), 0.0, change)
    largest = float(known.max())
    return float((known >= above * largest).sum()) ** 0.5 if largest > 0 else 0.0
