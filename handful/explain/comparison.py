"""The strongest other class: what parts it from the explained one, and what would make the two level."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from handful.attribution import Contributions
from handful.explain.scores import ClassScore
from handful.networks import Head
from handful.networks.heads import MIN_STD, SparseHead

#: Single changes that are listed of those that would bring a tie.
CHANGES = 3


@dataclass(frozen=True)
class FeatureLead:
    """One feature's share in the lead of the explained class over the runner-up: (w − w')·f.

    Example:
        >>> FeatureLead(feature=3, lead=0.5)
        FeatureLead(feature=3, lead=0.5)
    """

    feature: int
    lead: float


@dataclass(frozen=True)
class Change:
    """A change of one feature that would make the two classes level, all else equal.

    Attributes:
        feature: its number.
        value: of the feature in the image.
        needed: what it would have to be.

    Example:
        >>> change = Change(feature=3, value=0.5, needed=0.75)
        >>> change.needed - change.value
        0.25
    """

    feature: int
    value: float
    needed: float


@dataclass(frozen=True)
class RunnerUp:
    """The class with the highest score among the others.

    Attributes:
        score: its logit and probability.
        lead: the explained class's logit less this one's; negative where this one is predicted.
        bias_lead: the biases' share of the lead.
        features: the features that part the two, largest share first; with `bias_lead` they add up to `lead`.
        would_tie: which single feature would have to differ for a tie, the smallest changes first.

    Example:
        >>> from handful import Inputs, build_classifier, explain
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
        >>> model.inputs = Inputs(["owl", "wren"], 32, (0.5,) * 3, (0.5,) * 3)
        >>> why = explain(model, torch.zeros(3, 32, 32), methods="cam")
        >>> total = sum(one.lead for one in why.runner_up.features) + why.runner_up.bias_lead
        >>> abs(total - why.runner_up.lead) < 1e-9
        True
    """

    score: ClassScore
    lead: float
    bias_lead: float
    features: tuple[FeatureLead, ...]
    would_tie: tuple[Change, ...]

    @property
    def name(self) -> str:
        """Of the class."""
        return self.score.name

    @property
    def probability(self) -> float:
        """Of the class."""
        return self.score.probability

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return self.score.to_dict() | {
            "lead": self.lead,
            "bias_lead": self.bias_lead,
            "features": [asdict(one) for one in self.features],
            "would_tie": [asdict(one) for one in self.would_tie],
        }


def compare_with_runner_up(parts: Contributions, image: int, score: ClassScore, head: Head) -> RunnerUp:
    """Compare the explained class of one image with the strongest other one.

    Args:
        parts: contributions of the images.
        image: which of them.
        score: of the runner-up, `parts.runner_up[image]`.
        head: of the classifier; a sparse one knows by how much its features vary.
    """
    return RunnerUp(
        score,
        float(parts.margin[image]),
        float(parts.bias[image] - parts.other_bias[image]),
        tuple(
            FeatureLead(feature, float(parts.lead[image, feature])) for feature in parts.strongest_lead(image).tolist()
        ),
        smallest_changes(parts, image, head),
    )


def smallest_changes(parts: Contributions, image: int, head: Head, count: int = CHANGES) -> tuple[Change, ...]:
    """Return the smallest changes of a single feature that would tie the two classes.

    Changes are compared in the features' own standard deviations where the head knows them.

    Args:
        parts: contributions of the images.
        image: which of them.
        head: of the classifier.
        count: at most so many.
    """
    needed, now = parts.tie_values[image], parts.features[image]
    size = ((needed - now).abs() / _deviations(head, now)).nan_to_num(nan=torch.inf)
    return tuple(
        Change(feature, float(now[feature]), float(needed[feature]))
        for feature in size.argsort(stable=True)[:count].tolist()
        if size[feature] < torch.inf
    )


def _deviations(head: Head, features: Tensor) -> Tensor:
    scale = torch.ones_like(features)
    if isinstance(head, SparseHead):
        scale[head.selection.cpu()] = head.std.detach().cpu().clamp(min=MIN_STD).to(scale)
    return scale
