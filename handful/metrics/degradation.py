"""IBA's degradation: how much sooner a class is lost when its best tiles go first than when its worst do."""

from typing import Any

import torch
from torch import Tensor, nn

from handful.attribution.images import maps_of
from handful.attribution.targets import Target
from handful.conversions import check_whole
from handful.metrics.changed_images import changed_images, ranks, rows_of
from handful.metrics.faithfulness import area_under
from handful.metrics.finite import is_empty
from handful.metrics.means import MeanWhereDefined
from handful.metrics.tiles import tile_numbers, tile_sums

#: Below this fall of the probability, from the image to its mean colour, a curve cannot be normalised.
_LEAST_FALL = 0.05


def degradation(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Target | None = None,
    tile: int = 8,
    steps: int = 100,
    chunk: int | None = None,
) -> Tensor:
    """Return the area between two degradation curves of each image, float64 `(N,)`, in [−1, 1] as a rule.

    Tiles are replaced by the image's mean colour, least important first (LeRF) and most important first (MoRF), by the
    sum of the map over them. Each curve of the class's probability p is normalised,
    `(p(k) − p(end)) / (p(0) − p(end))`; the value is the area under LeRF less that under MoRF. 0 for a constant map.
    NaN where the probability falls by less than 0.05 from the image to its mean colour.

    `2 · steps` forward passes of each image, with at most one step per tile.

    Args:
        model: images to logits.
        images: `(N, C, H, W)`, normalised.
        maps: `(N, H, W)`.
        classes: one class per image; None takes the predicted ones.
        tile: side of the square tiles in pixels; those at the lower and right edge may be smaller.
        steps: steps of each curve, at most.
        chunk: images in a forward pass; None chooses by their size.

    Raises:
        UserError: images, maps or classes that do not fit one another or are not finite; a number out of range.

    Source: Schulz et al. 2020, "Restricting the Flow" (arXiv 2001.00396), section 4.3; tiles of 8 and 14 pixels of 224
    there.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
        >>> degradation(model, torch.rand(3, 3, 4, 4), torch.ones(3, 4, 4), tile=2).shape
        torch.Size([3])
    """
    check_whole("steps", steps, 1)
    with changed_images(model, images, classes, chunk) as watched:
        images = watched.images
        maps = maps_of(images, maps)
        number = tile_numbers(images, tile)
        n_tiles = int(number.max()) + 1
        sums = tile_sums(maps, number, n_tiles)
        steps = min(steps, n_tiles)
        # a constant map has the same order both ways, and so the value 0
        orders = torch.stack([ranks(sums, descending=True), ranks(sums, descending=False)], dim=1)
        mean = images.mean(dim=(2, 3), keepdim=True)
        replaced = (torch.arange(1, steps + 1, device=images.device) * n_tiles / steps).round()

        def change(rows: Tensor, copy: Tensor) -> Tensor:
            step, order = copy % steps, copy // steps
            gone = (orders[rows, order] < replaced[step][:, None])[:, number]
            return torch.where(gone[:, None], rows_of(mean, rows), rows_of(images, rows))

        # the last copy of the second curve is the last of the first
        found = watched.answers(2 * steps - 1, change, "probability").double()
        start = watched.clean("probability").double()[:, None]
    end = found[:, [steps - 1]]
    most = torch.cat([start, found[:, :steps]], dim=1)
    least = torch.cat([start, found[:, steps:], end], dim=1)
    fall = start - end
    areas = [area_under((curve - end) / fall) for curve in (least, most)]
    return (areas[0] - areas[1]).masked_fill(fall[:, 0] < _LEAST_FALL, torch.nan)


class Degradation(MeanWhereDefined):
    """Average IBA's degradation, `2 · steps` forward passes of each image; see `degradation`.

    Args:
        tile: side of the tiles in pixels.
        steps: steps of each curve, at most.

    Example:
        >>> metric = Degradation(tile=2)
        >>> metric.update(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), torch.rand(3, 3, 4, 4), torch.ones(3, 4, 4))
        >>> int(metric.count + metric.left_out)
        3
    """

    higher_is_better = True

    def __init__(self, tile: int = 8, steps: int = 100, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tile, self.steps = check_whole("tile", tile, 1), check_whole("steps", steps, 1)

    def update(  # type: ignore[override]
        self, model: nn.Module, images: Tensor, maps: Tensor, classes: Target | None = None
    ) -> None:
        """Add images `(N, C, H, W)`, their maps `(N, H, W)` and classes `(N,)`, the predicted ones when not given."""
        if is_empty(images):
            return
        super().update(degradation(model, images, maps, classes, self.tile, self.steps))
