"""Network Dissection: which unit detects which concept?"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from handful.annotations.pixels import KINDS, Concept
from handful.conversions import as_double, as_float, as_mask, as_tensor, check_real, check_whole
from handful.errors import UserError
from handful.metrics.finite import as_feature_maps
from handful.metrics.histogram import Histogram, chunks, nearest_thresholds
from handful.metrics.plotted import PlottedMetric

#: Share of all positions at which a unit is called active, and the IoU that makes a detector (Bau et al.).
ACTIVE, DETECTS = 0.005, 0.04

#: Part of the share by which it may be missed before the second histogram decides.
_APART = 0.1

#: All bits of a float32 number but its sign.
_MAGNITUDE = 2**31 - 1

#: Numbers in memory at a time.
_CELLS = 2**22


class ActivationThresholds(Histogram):
    """Find per unit the activation that a share of all positions of all images reach: the first pass of dissection.

    Streams through histograms (`Histogram`): memory does not grow with the number of images, and the result does not
    depend on order or ranks. The share is met to within half a bin's. Where that is more than a tenth of the share, as
    when one activation is so large that all others fall into a few bins, a second histogram decides, whose bins are
    narrow near 0 and as wide as numbers of their size: of the numbers' float32 representations.

    Args:
        num_units: U.
        share: of the positions.
        bins: per unit.

    Example:
        >>> thresholds = ActivationThresholds(num_units=1, share=0.25)
        >>> thresholds.update(torch.arange(16.0).reshape(1, 1, 4, 4))
        >>> thresholds.compute().tolist()
        [12.0]
    """

    higher_is_better = None

    def __init__(self, num_units: int, share: float = ACTIVE, bins: int = 4096, **kwargs: Any) -> None:
        units = check_whole("num_units", num_units, 0)
        super().__init__(2 * units, bins, **kwargs)
        self.num_units = units
        self.share = check_real("share", share, 0, 1, open_below=True, open_above=True)

    def update(self, maps: Tensor) -> None:
        """Add maps `(B, U, h, w)`.

        Raises:
            UserError: another shape, or maps that are not finite.
        """
        units = as_feature_maps(maps, None, self.num_units).transpose(0, 1)
        for rows in chunks(units):
            values = units[rows].flatten(1)
            self._count(rows, values)
            self._count(slice(self.num_units + rows.start, self.num_units + rows.stop), _place(values))

    def compute(self) -> Tensor:  # type: ignore[override]
        """Return the thresholds, float64 `(U,)`; infinite for units that never change."""
        counts, edges = super().compute()
        split = self.num_units
        even, apart = nearest_thresholds(counts[:split], edges[:split], self.share)
        by_size, other = nearest_thresholds(counts[split:], edges[split:], self.share)
        return torch.where((apart > _APART * self.share) & (other < apart), _number(by_size), even)


def _place(values: Tensor) -> Tensor:
    """The place of numbers, rounded to float32, among all of these; whole numbers, int32."""
    bits = values.float().contiguous().view(torch.int32)
    sign = bits >> 31  # −1 below 0, where the magnitude is taken off
    return bits.bitwise_and(_MAGNITUDE).bitwise_xor_(sign).sub_(sign)


def _number(place: Tensor) -> Tensor:
    """The number at a place of `_place`, or the next; infinity stays."""
    bits = place.nan_to_num(posinf=0.0).ceil().long()
    found = torch.where(bits >= 0, bits, -bits).int().view(torch.float32).double()
    return torch.where(place.isfinite(), torch.where(bits >= 0, found, -found), torch.inf)


class NetworkDissection(PlottedMetric):
    """Compare where units are active with where concepts are: the second pass of dissection.

    A unit is active where its map, enlarged to the size of the masks, reaches its threshold. Its IoU with a concept is
    the intersection over the union of both, each summed over the images that were searched for the concept. A unit
    detects the concept with the largest IoU where that exceeds `detects`.

    Args:
        thresholds: `(U,)`, of `ActivationThresholds`.
        concepts: K.
        detects: the IoU that makes a detector.

    Source: Bau et al. 2017, "Network Dissection" (arXiv 1704.05796), section 2; thresholds at the top 0.5 % and
    detectors above 0.04 as there.

    Example:
        >>> mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
        >>> mask[..., :2] = True
        >>> metric = NetworkDissection(torch.tensor([0.5]), [Concept("wing", "part")])
        >>> metric.update(mask.float(), mask)
        >>> float(metric.compute()["unique_detectors"]), metric.detectors()[0][0].name
        (1.0, 'wing')
    """

    higher_is_better = True
    both: Tensor
    active: Tensor
    labelled: Tensor

    def __init__(
        self, thresholds: Tensor, concepts: Sequence[Concept], detects: float = DETECTS, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.thresholds = as_float(thresholds, (None,), "thresholds").double()
        if bool(self.thresholds.isnan().any()):
            raise UserError("thresholds: expected numbers, infinite for units that never change, got NaN")
        self.concepts = list(concepts)
        self.detects = check_real("detects", detects, 0, 1)
        unknown = [concept.kind for concept in self.concepts if concept.kind not in KINDS]
        if unknown:
            raise UserError(f"concepts: no kind {unknown[0]!r}; there are {', '.join(KINDS)}")
        units, concepts_ = len(self.thresholds), len(self.concepts)
        for name, shape in (("both", (units, concepts_)), ("active", (units, concepts_)), ("labelled", (concepts_,))):
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor, annotated: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            maps: `(B, U, h, w)`.
            masks: bool `(B, K, H, W)`, or of 0 and 1, or of 0 and 255.
            annotated: bool `(B, K)`, whether an image was searched for the concept; all where None.

        Raises:
            UserError: shapes that do not fit one another, maps that are not finite, masks of other values.
        """
        maps = as_feature_maps(maps, None, len(self.thresholds)).float()
        masks = _as_masks(masks, len(maps), len(self.concepts)).to(maps.device)
        everywhere = torch.ones(masks.shape[:2], dtype=torch.bool)
        given = as_double(everywhere if annotated is None else annotated, tuple(masks.shape[:2]), "annotated")
        searched = given.to(maps.device) > 0
        if not masks.numel():
            return
        labels = (masks & searched[:, :, None, None]).flatten(2)
        self.labelled += labels.sum(dim=2).sum(dim=0)
        thresholds = self.thresholds.to(maps.device, torch.float32)
        # enlarging never exceeds the largest value: most units are active nowhere in an image
        reaches = maps.amax(dim=(2, 3)) >= thresholds
        step = max(1, _CELLS // labels.shape[2])
        for image in range(len(maps)):
            columns = torch.cat([labels[image].float(), labels.new_ones(1, labels.shape[2]).float()]).T
            active = reaches[image].nonzero()[:, 0]
            for units in active.split(step) if len(active) else ():
                large = functional.interpolate(
                    maps[image, None, units], masks.shape[2:], mode="bilinear", align_corners=False
                )
                on = large[0].flatten(1).ge_(thresholds[units, None])  # 0 and 1
                found = (on @ columns).long()  # whole numbers below 2^24 are exact in float32
                self.both.index_add_(0, units, found[:, :-1])
                self.active.index_add_(0, units, found[:, -1:] * searched[image].long())

    def iou(self) -> Tensor:
        """Return the IoU of all units and concepts over all ranks, float64 `(U, K)`; 0 where neither is anywhere."""
        with self.sync_context():
            return self._iou()

    def _iou(self) -> Tensor:
        union = self.active + self.labelled - self.both
        return self.both.double() / union.clamp(min=1)

    def detectors(self) -> list[tuple[Concept | None, float]]:
        """Per unit, the concept that it detects, None where it detects none, and the largest IoU."""
        return self._detectors(self.iou())

    def _detectors(self, iou: Tensor) -> list[tuple[Concept | None, float]]:
        if not self.concepts:
            return [(None, 0.0)] * len(iou)
        values, best = iou.max(dim=1)
        return [
            (self.concepts[concept] if value > self.detects else None, value)
            for value, concept in zip(values.tolist(), best.tolist(), strict=True)
        ]

    def compute(self) -> dict[str, Tensor]:
        """Return `detectors` (units), `unique_detectors` (concepts that any unit detects), and these per kind."""
        found = [concept for concept, _ in self._detectors(self._iou()) if concept is not None]
        unique = set(found)
        there = {concept.kind for concept in self.concepts}
        counts = {"detectors": len(found), "unique_detectors": len(unique)}
        for kind in (kind for kind in KINDS if kind in there):
            counts[f"unique_detectors_{kind}"] = sum(concept.kind == kind for concept in unique)
        return {name: torch.tensor(float(count), dtype=torch.float64) for name, count in counts.items()}


def _as_masks(masks: Any, images: int, concepts: int) -> Tensor:
    values = as_tensor(masks, "masks")
    if values.ndim != 4 or tuple(values.shape[:2]) != (images, concepts):
        raise UserError(f"masks: expected ({images}, {concepts}, H, W), got {tuple(values.shape)}")
    return as_mask(values.flatten(0, 1)).reshape(values.shape)
