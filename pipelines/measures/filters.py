"""Measures of single filters: what they detect, where they look, how far they see."""

from collections import Counter
from typing import Any, ClassVar

import torch

from handful.metrics import ActivationThresholds, LocationInstability, NetworkDissection, receptive_field
from handful.metrics.location_instability import peaks
from pipelines.measures.registry import Better, Measure, Measured, register_measure
from pipelines.measures.subject import Observed, Subject


@register_measure("dissection", group="filters")
class Dissection(Measure):
    """Network Dissection of the features that the head looks at."""

    title = "features that detect a concept, and concepts that are detected"
    better: ClassVar[Better] = "higher"
    needs = ("masks",)
    needs_maps = True
    passes = 2

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        if subject.images.masks is None:
            raise ValueError("the images have no masks")
        self.annotations = subject.images.masks
        self.thresholds = ActivationThresholds(len(subject.used)).to(subject.weight.device)
        self.second = False

    def begin(self, number: int) -> None:
        """Between the passes, settle the thresholds."""
        self.second = number == 1
        if self.second:
            found = self.thresholds.compute()
            self.metric = NetworkDissection(found, self.annotations.concepts).to(found.device)

    def update(self, observed: Observed) -> None:
        """Add a batch."""
        if not self.second:
            self.thresholds.update(observed.maps)
            return
        masks, searched = (of(observed.indices) for of in (self.annotations.masks, self.annotations.annotated))
        self.metric.update(observed.maps, masks, searched)

    def compute(self) -> Measured:
        """Counts; in the details, a row per feature with its concept."""
        rows = []
        found = zip(self.subject.used.tolist(), self.metric.detectors(), self.metric.thresholds.tolist(), strict=True)
        for feature, (concept, iou), threshold in found:
            row: dict[str, Any] = {"feature": feature, "iou": round(iou, 6)}
            row |= {"concept": concept.name, "kind": concept.kind} if concept else {"concept": None}
            row["threshold"] = threshold if abs(threshold) < float("inf") else None
            rows.append(row)
        values = {name: float(value) for name, value in self.metric.compute().items()}
        values["detectors"] /= max(1, len(rows))
        values["detector_share"] = values.pop("detectors")
        return Measured(values, {"features": rows})


@register_measure("location_instability", group="filters")
class Instability(Measure):
    """Location instability against the positions of parts."""

    title = "how much the distance between a feature's peak and a part varies"
    better: ClassVar[Better] = "lower"
    needs = ("positions",)
    needs_maps = True

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        if subject.images.positions is None:
            raise ValueError("the images have no positions of parts")
        self.annotations = subject.images.positions
        side = subject.data.image_size
        parts = len(self.annotations.part_names)
        self.metric = LocationInstability(len(subject.used), parts, (side, side)).to(subject.weight.device)

    def update(self, observed: Observed) -> None:
        """Add a batch."""
        positions, seen = self.annotations.positions(observed.indices)
        self.metric.update(observed.maps, positions, seen)

    def compute(self) -> Measured:
        """The mean; in the details, a row per feature."""
        each = zip(self.subject.used.tolist(), self.metric.per_filter().tolist(), strict=True)
        rows = [{"feature": feature, "instability": round(value, 6)} for feature, value in each if value == value]
        return Measured({"location_instability": float(self.metric.compute())}, {"features": rows})


@register_measure("receptive_fields", group="filters")
class ReceptiveFields(Measure):
    """Empirical receptive fields, on the images where most features peak highest."""

    title = "side in pixels of what a feature really looks at"
    needs_maps = True

    #: Images, and places of the patch along a side of each.
    IMAGES, PLACES = 6, 12

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.best = torch.full((len(subject.used), self.IMAGES), -torch.inf)
        self.where = torch.full(self.best.shape, -1)

    def update(self, observed: Observed) -> None:
        """Note the images where features peak highest."""
        values = torch.cat([self.best, peaks(observed.maps, (1, 1))[0].T.float().cpu()], dim=1)
        numbers = torch.cat([self.where, torch.tensor(observed.indices).expand(len(self.where), -1)], dim=1)
        self.best, order = values.topk(self.IMAGES, dim=1)
        self.where = numbers.gather(1, order)

    def compute(self) -> Measured:
        """The mean side; in the details, a row per feature. Takes `IMAGES · (1 + PLACES²)` images' passes, or less."""
        side, model, units = self.subject.data.image_size, self.subject.model, self.subject.used.tolist()
        stride = -(-side // self.PLACES)
        patch = stride + stride // 2
        often = Counter(self.where[self.best.isfinite()].tolist())
        indices = sorted(often, key=lambda index: (-often[index], index))[: self.IMAGES]
        if not indices:
            return Measured({"receptive_field": float("nan")})
        pixels = self.subject.images.pixels(indices).to(next(model.parameters()).device)
        fields = receptive_field(model.feature_maps, pixels, units, patch, stride)
        rows = [{"feature": feature, "side": field.size} for feature, field in zip(units, fields, strict=True)]
        mean = sum(field.size for field in fields) / len(fields)
        return Measured({"receptive_field": mean}, {"patch": patch, "stride": stride, "features": rows})
