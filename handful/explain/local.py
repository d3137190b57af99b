"""Single decisions of a test set: the most confident errors, some right ones, and what tipped each."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from handful.attribution import Contributions, contributions
from handful.attribution.state import model_device
from handful.explain.deciding import DecidingFeatures, NormalisedImages

#: Images in a forward pass.
BATCH = 16


@dataclass
class Decision:
    """One image, and what decided.

    Attributes:
        index: of the image.
        truth: its class.
        predicted: its predicted class.
        probability: of the predicted class, in [0, 1].
        parts: feature → w·f of the predicted class; for an error (w − w')·f, by which it leads the true class. The
            largest first.
        bias: of the predicted class; for an error less that of the true class.
        total: the predicted class's logit; for an error less that of the true class. The parts and the bias add up.
        image: `(3, H, W)`, normalised.
        maps: feature → where it spoke for the prediction, `(h, w)`, in units of `parts`.
    """

    index: int
    truth: str
    predicted: str
    probability: float
    parts: dict[int, float]
    bias: float
    total: float
    image: Tensor
    maps: dict[int, Tensor] = field(default_factory=dict)

    @property
    def right(self) -> bool:
        """Whether the prediction is the true class."""
        return self.truth == self.predicted


def confident_errors(deciding: DecidingFeatures, count: int, label: int | None = None) -> list[int]:
    """Indices of the errors with the highest probabilities, each pair of classes once; of one true class if given.

    Where there are fewer pairs than `count`, further errors of the same pairs. The most confident first.
    """
    order = _confident(deciding, deciding.predicted != deciding.labels, label)
    return _one_each(order, [(int(deciding.labels[i]), int(deciding.predicted[i])) for i in order], count)


def confident_hits(deciding: DecidingFeatures, count: int, label: int | None = None) -> list[int]:
    """Indices of the right predictions with the highest probabilities, each class once; of one class if given."""
    order = _confident(deciding, deciding.predicted == deciding.labels, label)
    return _one_each(order, [int(deciding.labels[i]) for i in order], count)


def _confident(deciding: DecidingFeatures, wanted: Tensor, label: int | None) -> list[int]:
    found = (wanted if label is None else wanted & (deciding.labels == label)).nonzero()[:, 0]
    return found[deciding.probability[found].argsort(descending=True, stable=True)].tolist()


def decisions(
    deciding: DecidingFeatures, images: NormalisedImages, indices: Sequence[int], drawn: int = 8
) -> list[Decision]:
    """What decided in some images.

    Args:
        deciding: the classifier, with its predictions for the images.
        images: those that its features are of.
        indices: of the images wanted.
        drawn: features with a map, at most.
    """
    found = []
    weights, bias = (part.detach().cpu().double() for part in deciding.model.head.class_weights())
    device = model_device(deciding.model)
    for start in range(0, len(indices), BATCH):
        chosen = list(indices[start : start + BATCH])
        batch = torch.stack([images[index][0] for index in chosen])
        labels = deciding.labels[chosen]
        parts = contributions(deciding.model, batch.to(device)).cpu()
        for row, index in enumerate(chosen):
            found.append(_decision(deciding, parts, row, index, int(labels[row]), batch[row], weights, bias, drawn))
    return found


def _decision(
    deciding: DecidingFeatures,
    parts: Contributions,
    row: int,
    index: int,
    label: int,
    image: Tensor,
    weights: Tensor,
    bias: Tensor,
    drawn: int,
) -> Decision:
    predicted = int(parts.classes[row])
    weigh, offset = weights[predicted], bias[predicted]
    if predicted != label:
        weigh, offset = weigh - weights[label], offset - bias[label]
    values = weigh * parts.features[row]
    order = [f for f in values.abs().argsort(descending=True, stable=True).tolist() if weigh[f]]
    return Decision(
        index,
        deciding.names[label],
        deciding.names[predicted],
        float(deciding.probability[index]),
        {f: float(values[f]) for f in order},
        float(offset),
        float(values.sum() + offset),
        image,
        {f: weigh[f] * parts.maps[row, f] for f in order[:drawn]},
    )


def _one_each(order: Sequence[int], kinds: Sequence[Hashable], count: int) -> list[int]:
    """The first of each kind; where there are too few kinds, the next of any. In the given order."""
    first: list[int] = []
    seen: set[Hashable] = set()
    for index, kind in zip(order, kinds, strict=True):
        if kind not in seen:
            seen.add(kind)
            first.append(index)
    rest = [index for index in order if index not in set(first)]
    chosen = set([*first, *rest][:count])
    return [index for index in order if index in chosen]
