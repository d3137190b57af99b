"""Location instability: does a filter always look at the same place of an object?"""

import math
from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_double, as_float, check_whole
from handful.errors import UserError
from handful.metrics.finite import as_feature_maps
from handful.metrics.plotted import PlottedMetric

#: Images per filter and landmark, as in the authors' code.
STRONGEST = 100

#: An irrational number whose multiples are spread evenly.
_SCRAMBLE = 1e5 * (math.sqrt(5) - 1) / 2


def peaks(maps: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The largest value of each map, and where in the image it is.

    Args:
        maps: `(B, F, h, w)`.
        size: height and width of the images in pixels.

    Returns:
        Values `(B, F)`, −inf for maps that are the same everywhere; x and y of the middle of the cell, float64
        `(B, F, 2)` in pixels from the left upper corner. Of equal values the first in reading order counts.

    Example:
        >>> values, places = peaks(torch.eye(2)[None, None].flip(3), (8, 8))
        >>> places.tolist()
        [[[6.0, 2.0]]]
    """
    height, width = maps.shape[2:]
    flat = maps.flatten(2)
    values, index = flat.max(dim=2)
    x = (index % width + 0.5) * (size[1] / width)
    y = (index // width + 0.5) * (size[0] / height)
    values = torch.where(values > flat.amin(dim=2), values, -torch.inf)
    return values, torch.stack([x, y], dim=-1).double()


class LocationInstability(PlottedMetric):
    """Measure how much the distance between a filter's peak and a landmark varies, in shares of the image's diagonal.

    Per filter and landmark: the standard deviation (N − 1) of the distance over the 100 images in which the filter is
    strongest, of those in which the landmark is seen. Mean over landmarks, then over filters. 0 for a filter that peaks
    at a fixed distance from a landmark; about 0.1 to 0.18 for a peak anywhere. Filters with fewer than two images for a
    landmark do not count. Peaks are middles of cells, that is of receptive fields.

    Args:
        num_filters: F.
        num_landmarks: K.
        size: height and width of the images in pixels.
        strongest: images per filter and landmark.

    Source: Zhang et al. 2018, "Interpreting CNN knowledge via an explanatory graph" (arXiv 1708.01785), section 5.3;
    as in the authors' code of "Interpretable convolutional neural networks".

    Example:
        >>> metric = LocationInstability(num_filters=1, num_landmarks=1, size=(4, 4))
        >>> maps = torch.eye(4)[:2].reshape(2, 1, 2, 2)
        >>> metric.update(maps, torch.tensor([[[1.0, 1.0]], [[3.0, 1.0]]]))
        >>> float(metric.compute())
        0.0
    """

    higher_is_better = False
    strongest_images: Tensor

    def __init__(
        self, num_filters: int, num_landmarks: int, size: tuple[int, int], strongest: int = STRONGEST, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_filters = num_filters = check_whole("num_filters", num_filters, 0)
        self.num_landmarks = num_landmarks = check_whole("num_landmarks", num_landmarks, 0)
        height, width = size
        self.size = (check_whole("height of size", height, 1), check_whole("width of size", width, 1))
        self.strongest = check_whole("strongest", strongest, 2)
        # per filter and landmark the scores of its strongest images, in decreasing order, and the distances there
        empty = torch.full((num_filters, num_landmarks, self.strongest, 2), -torch.inf, dtype=torch.float64)
        self.add_state("strongest_images", empty, dist_reduce_fx=_strongest_of)

    def update(self, maps: Tensor, positions: Tensor, seen: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            maps: `(B, F, h, w)`.
            positions: `(B, K, 2)`, x and y of each landmark in pixels.
            seen: bool `(B, K)`, whether the image shows the landmark, exactly once; all where None.

        Raises:
            UserError: shapes that do not fit one another; maps, or places of landmarks that are seen, that are not
                finite.
        """
        maps = as_feature_maps(maps, None, self.num_filters)
        positions = as_float(positions, (len(maps), self.num_landmarks, 2), "positions").double().to(maps.device)
        if not len(maps):
            return
        scores, places = peaks(maps, self.size)
        distances = (places[:, :, None] - positions[:, None]).norm(dim=3)  # (B, F, K)
        scores = scores.double()[:, :, None].expand_as(distances)
        shape = (len(maps), self.num_landmarks)
        there = positions.new_ones(shape) if seen is None else as_double(seen, shape, "seen").to(maps.device)
        missing = (~positions.isfinite().all(dim=2) & (there > 0)).any(dim=1)
        if bool(missing.any()):
            raise UserError(f"positions: image {int(missing.nonzero()[0])} shows a landmark whose place is not finite")
        scores = torch.where(there[:, None] > 0, scores, -torch.inf)
        new = torch.stack([scores, distances], dim=3).permute(1, 2, 0, 3)
        self.strongest_images = _strongest(torch.cat([self.strongest_images, new], dim=2), self.strongest)

    def compute(self) -> Tensor:
        """Return the instability, float64; NaN where no filter counts."""
        return self._per_filter().nanmean()

    def per_filter(self) -> Tensor:
        """Return the instability of each filter over all ranks, float64 `(F,)`; NaN for those that do not count."""
        with self.sync_context():
            return self._per_filter()

    def _per_filter(self) -> Tensor:
        scores, distances = self.strongest_images.unbind(dim=3)
        there = scores.isfinite()
        count = there.sum(dim=2)
        distances = torch.where(there, distances, 0.0)
        mean = distances.sum(dim=2) / count
        squares = torch.where(there, (distances - mean[:, :, None]) ** 2, 0.0).sum(dim=2)
        deviation = torch.where(count > 1, (squares / (count - 1).clamp(min=1)).sqrt(), torch.nan)
        return deviation.mean(dim=1) / math.hypot(*self.size)


def _strongest(rows: Tensor, count: int) -> Tensor:
    """The `count` rows of largest score, the same in any order.

    Of equal scores some decide by digits of the distance that have nothing to do with its size.
    """
    digits = (rows[..., 1] * _SCRAMBLE) % 1
    order = torch.where(digits.isfinite(), digits, 2.0).argsort(dim=2, stable=True)
    rows = rows.gather(2, order[..., None].expand_as(rows))
    by_score = rows[..., 0].argsort(dim=2, descending=True, stable=True)[:, :, :count]
    return rows.gather(2, by_score[..., None].expand(-1, -1, -1, 2))


def _strongest_of(states: Tensor) -> Tensor:
    """One state of several, `(n, F, K, count, 2)`."""
    return _strongest(states.permute(1, 2, 0, 3, 4).flatten(2, 3), states.shape[3])
