"""Measures of features against attributes of images and classes."""

from typing import ClassVar

import torch

from handful.annotations import AttributeTable
from handful.metrics import AttributeAlignment, grounding_correlation, stands_for, structural_grounding
from handful.metrics.alignment import COMMON
from handful.metrics.structural_grounding import PAIRS
from pipelines.measures.registry import Better, Measure, Measured, register_measure
from pipelines.measures.subject import Observed, Subject


@register_measure("alignment", group="features")
class Alignment(Measure):
    """Feature–attribute alignment: the score, and the attribute that each feature follows."""

    title = "how closely do features follow attributes?"
    better: ClassVar[Better] = "higher"
    needs = ("attributes",)

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        table = subject.images.image_attributes
        if table is None:
            raise ValueError("the images have no attributes")
        self.table: AttributeTable = table
        self.metric = AttributeAlignment(len(subject.used), len(table.names)).to(subject.weight.device)

    def update(self, observed: Observed) -> None:
        """Add a batch."""
        certain = None if self.table.certain is None else self.table.certain[observed.indices]
        self.metric.update(observed.features, self.table.present[observed.indices], certain)

    def compute(self) -> Measured:
        """The score over all attributes; in the details, a row per feature with the attribute that it follows most.

        Of attributes that are common in some class, where those of classes are known.
        """
        matrix = self.metric.matrix().cpu()
        known = torch.where(matrix.isnan(), -torch.inf, matrix)
        classes = self.subject.images.class_attributes
        if classes is not None:  # what no class has often is not a name for a feature
            known[(classes.present <= COMMON).all(dim=0)] = -torch.inf
        fits = None if classes is None else stands_for(self.subject.weight.cpu(), classes.present)
        rows = []
        for place, feature in enumerate(self.subject.used.tolist()):
            value, best = known[:, place].max(dim=0)
            if bool(value.isfinite()):
                rows.append({"feature": feature, "attribute": self.table.names[int(best)], "alignment": float(value)})
                if fits is not None:
                    rows[-1]["in_all_its_classes"] = bool(fits[place, best])
        rows.sort(key=lambda row: -row["alignment"])
        return Measured({"alignment": float(self.metric.compute())}, {"features": rows})


@register_measure("structural_grounding", group="features")
class Grounding(Measure):
    """Whether classes with like attributes have like weights."""

    title = "do classes share features where they share attributes?"
    better: ClassVar[Better] = "higher"
    needs = ("attributes",)
    passes = 0

    def compute(self) -> Measured:
        """Of the classes' attributes; in the details, what the attributes themselves would score as weights.

        As they are they score 1. Less their mean over the classes, which decides the same in a softmax, they score
        less, and the less, the more of all pairs are compared.
        """
        table = self.subject.images.class_attributes
        if table is None:
            raise ValueError("the classes have no attributes")
        weight, attributes = self.subject.weight, table.present
        classes = len(attributes)
        pairs = classes * (classes - 1) // 2
        centred = attributes - attributes.mean(dim=0)
        return Measured(
            {
                "structural_grounding": float(structural_grounding(weight, attributes)),
                "grounding_correlation": float(grounding_correlation(weight, attributes)),
            },
            {"pairs": min(PAIRS, pairs), "of_pairs": pairs,
             "of_centred_attributes": float(structural_grounding(centred, attributes))},
        )  # fmt: skip
