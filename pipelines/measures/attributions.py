"""Measures of attributions: each of every method that `--methods` names, on the predicted class."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from handful.metrics.boxes import BoxRatio
from handful.metrics.degradation import Degradation
from handful.metrics.faithfulness import DeletionAUC, InsertionAUC
from handful.metrics.funny_birds import funny_birds, watch_birds
from handful.metrics.infidelity import Infidelity
from handful.metrics.localisation import EnergyInMask, PointingGame
from handful.metrics.max_sensitivity import MaxSensitivity
from handful.metrics.parameter_randomisation import ParameterRandomisation, randomisable_layers
from handful.metrics.road import ROAD
from handful.metrics.sensitivity_n import SensitivityN
from handful.metrics.sparseness import Sparseness
from pipelines.measures.registry import Better, Measure, Measured, register_measure
from pipelines.measures.subject import Observed, Subject

#: Tiles are this share of the image's side, as 8 pixels of 224.
_TILE = 8 / 224


class OfAttributions(Measure):
    """One metric per method; values are named `MEASURE of METHOD`."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.metrics = {method: self.metric(method) for method in subject.options.methods}

    def metric(self, method: str) -> Metric:
        """A new metric for the maps of a method."""
        raise NotImplementedError

    def given(self, observed: Observed, method: str) -> dict[str, Any]:
        """What the metric's update takes."""
        return {"model": observed.subject.model, "images": observed.images, "maps": observed.attribution(method)}

    def update(self, observed: Observed) -> None:
        """Add a batch."""
        for method, metric in self.metrics.items():
            metric.to(observed.logits.device).update(**self.given(observed, method))

    def compute(self) -> Measured:
        """A number per method; how many images were left out, in the details."""
        values = {f"{self.name} of {method}": float(metric.compute()) for method, metric in self.metrics.items()}
        left_out = {
            method: int(torch.as_tensor(metric.left_out).max())
            for method, metric in self.metrics.items()
            if hasattr(metric, "left_out")
        }
        return Measured(values, {"left_out": left_out} if any(left_out.values()) else {})


def _register(
    name: str, title: str, better: Better, make: Callable[[Subject], Metric], *, masks: bool = False, model: bool = True
) -> None:
    """Register a measure that is one metric of maps; of maps and masks, or of maps alone without a model."""

    class OneMetric(OfAttributions):
        needs = ("segmentation",) if masks else ()

        def metric(self, method: str) -> Metric:
            return make(self.subject)

        def given(self, observed: Observed, method: str) -> dict[str, Any]:
            found = super().given(observed, method) if model else {"maps": observed.attribution(method)}
            return found | ({"masks": observed.segmentation.to(observed.logits.device)} if masks else {})

    OneMetric.title, OneMetric.better = title, better
    OneMetric.__qualname__ = OneMetric.__name__ = f"OneMetric_{name}"
    register_measure(name, group="attributions")(OneMetric)


def _tile(subject: Subject) -> int:
    return max(1, round(_TILE * subject.data.image_size))


_register("insertion", "how soon a class comes with the map's best pixels", "higher", lambda _: InsertionAUC())
_register("deletion", "how soon a class goes without the map's best pixels", "lower", lambda _: DeletionAUC())
_register(
    "degradation", "area between the curves of the worst and the best tiles going first", "higher",
    lambda subject: Degradation(_tile(subject)),
)  # fmt: skip
_register("road", "how much more is lost without the best pixels than without the worst", "higher", lambda _: ROAD())
_register(
    "sensitivity_n", "correlation of the map's sum over random tiles with the fall of the score", "higher",
    lambda subject: SensitivityN(_tile(subject), seed=subject.options.seed),
)  # fmt: skip
_register(
    "infidelity", "how far what a map says of a change is from what it does, 1 for an empty map", "lower",
    lambda subject: Infidelity(normalise=True, seed=subject.options.seed),
)  # fmt: skip
_register("sparseness", "Gini index of the map's magnitudes", "", lambda _: Sparseness(), model=False)
_register("energy", "share of the map inside the object", "higher", lambda _: EnergyInMask(), masks=True, model=False)
_register("pointing", "peaks inside the object", "higher", lambda _: PointingGame(), masks=True, model=False)
_register(
    "box_ratio", "share of the map's best pixels inside the object", "higher", lambda _: BoxRatio(), masks=True,
    model=False,
)  # fmt: skip


@register_measure("max_sensitivity", group="attributions")
class Sensitivity(OfAttributions):
    """Max-sensitivity."""

    title = "how far a map changes when the image hardly does"
    better: ClassVar[Better] = "lower"

    def metric(self, method: str) -> Metric:
        """A new metric."""
        return MaxSensitivity(method, seed=self.subject.options.seed)

    def given(self, observed: Observed, method: str) -> dict[str, Any]:
        """The model and its images."""
        return {"model": observed.subject.model, "images": observed.images}


@register_measure("parameter_randomisation", group="attributions")
class Randomisation(OfAttributions):
    """Parameter randomisation, cascading from the last layer to the first."""

    title = "rank correlation with the map of the network whose weights are all drawn again"
    better: ClassVar[Better] = "lower"

    def metric(self, method: str) -> Metric:
        """A new metric over all layers."""
        first = self.subject.images.pixels(self.subject.images.indices[:1])
        layers = randomisable_layers(self.subject.model, first.to(self.subject.weight.device))
        return ParameterRandomisation(method, layers, seed=self.subject.options.seed)

    def given(self, observed: Observed, method: str) -> dict[str, Any]:
        """The model and its images."""
        return {"model": observed.subject.model, "images": observed.images}

    def compute(self) -> Measured:
        """The similarity after the last layer; those after each, and images left out, in the details."""
        found = super().compute()
        details = dict(found.details)
        for method, metric in self.metrics.items():
            assert isinstance(metric, ParameterRandomisation)
            table = {name: [round(value, 6) for value in column.tolist()] for name, column in metric.by_layer().items()}
            details[method] = {"layers": metric.layers, **table}
        return Measured(found.values, details)


@register_measure("funny_birds", group="attributions")
class FunnyBirds(Measure):
    """The FunnyBirds protocol on toy birds."""

    title = "does the explanation agree with the model when parts are removed?"
    better: ClassVar[Better] = "higher"
    needs = ("birds",)
    passes = 0

    def compute(self) -> Measured:
        """The three dimensions and their mean per method, and the two scores of the model itself."""
        images = self.subject.images
        mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (images.data.mean, images.data.std))

        def prepare(pixels: Tensor) -> Tensor:
            return (pixels.float() / 255 - mean) / std

        watched = watch_birds(self.subject.model, images.birds, images.indices, prepare)
        values: dict[str, float] = {}
        details = {}
        for method in self.subject.options.methods:
            found = funny_birds(self.subject.model, watched, method)
            values |= {name: found[name] for name in ("accuracy", "background_independence")}
            for name in ("completeness", "correctness", "contrastivity", "explainability"):
                values[f"{name} of {method}"] = found[name]
            details[method] = {name: None if value != value else round(value, 6) for name, value in found.items()}
        return Measured(values, details)
