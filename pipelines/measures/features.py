"""Measures of the features that the head looks at."""

from typing import ClassVar, Literal

from torchmetrics import Metric

from handful.metrics import Dependence, DiversityAtK
from pipelines.measures.registry import Measure, Measured, register_measure
from pipelines.measures.subject import Observed, Subject

#: The largest k of diversity@k.
K = 5


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
    better: ClassVar[Literal["higher", "lower", ""]] = "higher"
    needs_maps = True

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.metric = DiversityAtK(K)

    def update(self, observed: Observed) -> None:
        """Add a batch."""
        self.metric.update(observed.maps, observed.logits, observed.weight)


@register_measure("dependence", group="features")
class DependenceOnOne(_OfOneMetric):
    """Share of the largest contribution."""

    title = "how much of a decision hangs on its strongest feature?"
    better: ClassVar[Literal["higher", "lower", ""]] = "lower"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.metric = Dependence()

    def update(self, observed: Observed) -> None:
        """Add a batch."""
        self.metric.update(observed.features, observed.logits, observed.weight)
