"""Measures of the features that the head looks at."""

from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from handful.metrics import (
    ClassIndependence,
    Contrastiveness,
    Dependence,
    DiversityAtK,
    FeatureCorrelation,
    Plausibility,
    ScaleInvariantDiversity,
)
from pipelines.measures.registry import Better, Measure, Measured, register_measure
from pipelines.measures.subject import Observed, Subject

#: The largest k of diversity@k.
K = 5
#: Pooled features that wait to be counted, of all images and units together: half a MiB.
COUNTED_TOGETHER = 2**17


class _OfOneMetric(Measure):
    """A measure that is one metric, whose result is a number, or numbers by name."""

    metric: Metric

    def compute(self) -> Measured:
        """The numbers by name."""
        found = self.metric.compute()
        values = found if isinstance(found, dict) else {self.name: found}
        return Measured({name: float(value) for name, value in values.items()})


@register_measure("diversity", group="features")
class Diversity(_OfOneMetric):
    """diversity@1 … diversity@5."""

    title = "do the features of a decision look at different positions?"
    better: ClassVar[Better] = "higher"
    needs_maps = True

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.metric = DiversityAtK(K).to(subject.weight.device)

    def update(self, observed: Observed) -> None:
        """Add a batch."""
        self.metric.update(observed.strongest(K))


@register_measure("dependence", group="features")
class DependenceOnOne(_OfOneMetric):
    """Share of the largest contribution."""

    title = "how much of a decision depends on its strongest feature?"
    better: ClassVar[Better] = "lower"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.metric = Dependence().to(subject.weight.device)

    def update(self, observed: Observed) -> None:
        """Add a batch."""
        self.metric.update(observed.features, observed.logits, observed.weight)


@register_measure("sid", group="features")
class ScaleInvariant(_OfOneMetric):
    """SID@1 … SID@5."""

    title = "do the features of a decision look at different positions, whatever the scale of their maps?"
    better: ClassVar[Better] = "higher"
    needs_maps = True

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.metric = ScaleInvariantDiversity(K).to(subject.weight.device)

    def update(self, observed: Observed) -> None:
        """Add a batch."""
        self.metric.update(observed.strongest(K))


@register_measure("class_independence", group="features")
class Independence(_OfOneMetric):
    """How little of a feature's activation falls into one class."""

    title = "does a feature speak for many classes?"
    better: ClassVar[Better] = "higher"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.metric = ClassIndependence(len(subject.used), subject.model.num_classes).to(subject.weight.device)

    def update(self, observed: Observed) -> None:
        """Add a batch."""
        self.metric.update(observed.features, observed.labels)


@register_measure("contrastiveness", group="features")
class Contrast(_OfOneMetric):
    """How clearly features are there or not."""

    title = "is a feature clearly there or clearly not?"
    better: ClassVar[Better] = "higher"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.metric = Contrastiveness(len(subject.used)).to(subject.weight.device)
        self.waiting: list[Tensor] = []

    def update(self, observed: Observed) -> None:
        """Keep a batch until there is enough to count: the counts are the same, and fewer of them are widened."""
        self.waiting.append(observed.features)
        if sum(features.numel() for features in self.waiting) >= COUNTED_TOGETHER:
            self._count()

    def compute(self) -> Measured:
        """The share that does not overlap."""
        self._count()
        return super().compute()

    def _count(self) -> None:
        if self.waiting:
            self.metric.update(torch.cat(self.waiting))
            self.waiting.clear()


@register_measure("correlation", group="features")
class Correlation(_OfOneMetric):
    """How much another feature says the same."""

    title = "does another feature say the same?"
    better: ClassVar[Better] = "lower"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.metric = FeatureCorrelation(len(subject.used)).to(subject.weight.device)

    def update(self, observed: Observed) -> None:
        """Add a batch."""
        self.metric.update(observed.features)


@register_measure("plausibility", group="features")
class LooksAtTheObject(_OfOneMetric):
    """Share of activation inside the object's mask."""

    title = "share of the deciding features' activation on the object"
    better: ClassVar[Better] = "higher"
    needs = ("segmentation",)
    needs_maps = True

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.metric = Plausibility().to(subject.weight.device)

    def update(self, observed: Observed) -> None:
        """Add a batch."""
        self.metric.update(observed.maps, observed.logits, observed.weight, observed.segmentation)
