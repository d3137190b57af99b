"""Sensitivity-n: does the sum of a map over n tiles say how the score falls without them?"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from handful.attribution.images import maps_of
from handful.attribution.targets import Target
from handful.conversions import check_real, check_whole
from handful.metrics.changed_images import changed_images, rows_of
from handful.metrics.finite import is_empty
from handful.metrics.plotted import PlottedMetric
from handful.metrics.tiles import tile_numbers, tile_sums


def sensitivity_n(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Target | None = None,
    tile: int = 1,
    sizes: int = 8,
    subsets: int = 40,
    max_share: float = 0.8,
    seed: int = 0,
    chunk: int | None = None,
) -> Tensor:
    """Return how well sums of a map correlate with falls of the score, for several n, float64 `(N, sizes)`.

    For each n, random sets S of n tiles are set to 0 (the mean colour after normalisation); the value is Pearson's
    correlation over the sets of `Σ_S map` with `score(image) − score(image without S)`, in [−1, 1]. The numbers n lie
    in equal ratios between one tile and `max_share` of all. 0 where the map's sums are all equal, as of a constant
    map, so that they say nothing; NaN where the scores are all equal, so that there is nothing to say.

    `sizes · subsets + 1` forward passes of each image.

    Args:
        model: images to logits.
        images: `(N, C, H, W)`, normalised.
        maps: `(N, H, W)`.
        classes: one class per image; None takes the predicted ones.
        tile: side of the square tiles in pixels.
        sizes: how many n.
        subsets: sets drawn for each n, at least 2.
        max_share: largest n as a share of the tiles, in (0, 1).
        seed: with the image's pixels, chooses the sets.
        chunk: images in a forward pass; None chooses by their size.

    Raises:
        UserError: images, maps or classes that do not fit one another or are not finite; a number out of range.

    Source: Ancona et al. 2018 (arXiv 1711.06104), section 4; 16 n and 100 sets in Schulz et al. 2020.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2, bias=False)).double()
        >>> images = torch.rand(3, 3, 4, 4).double()
        >>> parts = (model[1].weight[1].reshape(3, 4, 4) * images).sum(1)
        >>> sensitivity_n(model, images, parts, 1, sizes=2).mean().round(decimals=6)
        tensor(1., dtype=torch.float64)
    """
    check_whole("sizes", sizes, 1)
    check_whole("subsets", subsets, 2)
    check_real("max_share", max_share, 0, 1, open_below=True, open_above=True)
    with changed_images(model, images, classes, chunk) as watched:
        images = watched.images
        maps = maps_of(images, maps)
        number = tile_numbers(images, tile)
        n_tiles = int(number.max()) + 1
        largest = max(1, round(max_share * n_tiles))
        n = torch.logspace(0, math.log10(largest), sizes, dtype=torch.float64).round().long()
        sets = torch.stack([
            _subsets(n, n_tiles, subsets, watched.generator(i, f"{seed}/sensitivity-n")) for i in range(len(images))
        ]).to(images.device)  # fmt: skip

        nothing = images.new_zeros(())

        def change(rows: Tensor, copy: Tensor) -> Tensor:
            gone = sets[rows, copy][:, number][:, None]
            return torch.where(gone, nothing, rows_of(images, rows))

        after = watched.answers(sizes * subsets, change, "score").double()
        falls = watched.clean("score").double()[:, None] - after
    sums = torch.einsum("nkt,nt->nk", sets.double(), tile_sums(maps, number, n_tiles))
    return correlation(sums.unflatten(1, (sizes, subsets)), falls.unflatten(1, (sizes, subsets)))


def _subsets(n: Tensor, n_tiles: int, subsets: int, generator: torch.Generator) -> Tensor:
    """Random sets of n tiles, `subsets` for each n, bool `(len(n) · subsets, n_tiles)`."""
    places = torch.rand(len(n) * subsets, n_tiles, generator=generator).argsort(dim=1).argsort(dim=1)
    return places < n.repeat_interleave(subsets)[:, None]


def correlation(told: Tensor, observed: Tensor) -> Tensor:
    """Return Pearson's correlation over the last dimension, float64.

    0 where `told` is constant, for it then says nothing; NaN where `observed` is, for there is nothing to say.

    Example:
        >>> correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 6.0])).round(decimals=6)
        tensor(1., dtype=torch.float64)
    """
    told, observed = _centred(told), _centred(observed)
    spread = [x.norm(dim=-1) for x in (told, observed)]
    found = (told * observed).sum(dim=-1) / (spread[0] * spread[1])
    found = found.clamp(-1, 1).masked_fill(spread[0] == 0, 0)
    return found.masked_fill(spread[1] == 0, torch.nan)


def _centred(values: Tensor) -> Tensor:
    """Values less their mean, of size 1 at most; exactly 0 where they are equal but for rounding."""
    values = values.double()
    size = values.abs().amax(dim=-1, keepdim=True)
    centred = values - values.mean(dim=-1, keepdim=True)
    reach = centred.abs().amax(dim=-1, keepdim=True)
    return torch.where(reach > 1e-13 * size, centred / reach.clamp_min(torch.finfo(torch.float64).tiny), 0.0)


class SensitivityN(PlottedMetric):
    """Average `sensitivity_n` over images, and then over the n.

    `sizes · subsets + 1` forward passes of each image.

    Args:
        tile: side of the tiles in pixels.
        sizes: how many n.
        subsets: sets drawn for each n.
        seed: with the image's pixels, chooses the sets.

    Attributes:
        left_out: int64 `(sizes,)`, images whose score did not change.

    Example:
        >>> metric = SensitivityN(sizes=2)
        >>> metric.update(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), torch.rand(3, 3, 4, 4), torch.ones(3, 4, 4))
        >>> float(metric.compute())
        0.0
    """

    higher_is_better = True
    totals: Tensor
    counts: Tensor
    left_out: Tensor

    def __init__(self, tile: int = 1, sizes: int = 8, subsets: int = 40, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tile, self.sizes = check_whole("tile", tile, 1), check_whole("sizes", sizes, 1)
        self.subsets, self.seed = check_whole("subsets", subsets, 2), seed
        self.add_state("totals", torch.zeros(sizes, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("counts", "left_out"):
            self.add_state(name, torch.zeros(sizes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, model: nn.Module, images: Tensor, maps: Tensor, classes: Target | None = None) -> None:
        """Add images `(N, C, H, W)`, their maps `(N, H, W)` and classes `(N,)`, the predicted ones when not given."""
        if is_empty(images):
            return
        found = sensitivity_n(model, images, maps, classes, self.tile, self.sizes, self.subsets, seed=self.seed)
        defined = ~found.isnan()
        self.totals += found.nan_to_num(0).sum(dim=0)
        self.counts += defined.sum(dim=0)
        self.left_out += (~defined).sum(dim=0)

    def compute(self) -> Tensor:
        """Return the mean correlation in [−1, 1], float64; NaN where no image counted."""
        return (self.totals / self.counts).nanmean()

    def by_n(self) -> Tensor:
        """Return the mean correlation for each n, from one tile to the largest, over the images of all processes."""
        with self.sync_context():
            return self.totals / self.counts
