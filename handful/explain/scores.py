"""Scores of classes, and the features they are made of."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from handful.attribution import Contributions


@dataclass(frozen=True)
class ClassScore:
    """A class as a model sees it in one image.

    Attributes:
        name: of the class.
        probability: softmax, in [0, 1].
        logit: the class's score.

    Example:
        >>> ClassScore("wren", 0.75, 1.5).to_dict()
        {'class': 'wren', 'probability': 0.75, 'logit': 1.5}
    """

    name: str
    probability: float
    logit: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the name as `class`."""
        return {"class": self.name, "probability": self.probability, "logit": self.logit}


@dataclass(frozen=True)
class Contribution:
    """One feature's part in the logit of the explained class.

    Attributes:
        feature: its number.
        value: the pooled feature f.
        weight: w of the explained class.
        contribution: w·f; all of them plus the bias are the logit.

    Example:
        >>> Contribution(feature=3, value=2.0, weight=0.5, contribution=1.0).to_dict()
        {'feature': 3, 'value': 2.0, 'weight': 0.5, 'contribution': 1.0}
    """

    feature: int
    value: float
    weight: float
    contribution: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def class_score(label: int, logits: Tensor, names: Sequence[str]) -> ClassScore:
    """Return the score of one class, from the logits `(C,)` of an image."""
    return ClassScore(names[label], float(logits.softmax(dim=0)[label]), float(logits[label]))


def feature_contributions(parts: Contributions, image: int) -> tuple[Contribution, ...]:
    """Return what every feature that the explained class weighs contributes, the largest first."""
    return tuple(
        Contribution(
            feature,
            float(parts.features[image, feature]),
            float(parts.weights[image, feature]),
            float(parts.values[image, feature]),
        )
        for feature in parts.strongest(image).tolist()
    )


def strongest_classes(logits: Tensor, names: Sequence[str], count: int = 3) -> tuple[ClassScore, ...]:
    """Return the classes of the highest logits, highest first."""
    return tuple(class_score(label, logits, names) for label in logits.argsort(descending=True)[:count].tolist())
