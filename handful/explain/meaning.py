"""What a feature is: the attribute it follows, and the part it lies on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from handful.attribution.display import resize


@dataclass(frozen=True)
class Followed:
    """The attribute that a feature follows most.

    Attributes:
        name: of the attribute.
        correlation: Pearson's r of feature and attribute, in (0, 1].

    Example:
        >>> Followed("red eye", 0.8).correlation
        0.8
    """

    name: str
    correlation: float


@dataclass(frozen=True)
class LiesOn:
    """The part that a feature lies on most.

    Attributes:
        name: of the part.
        share: of the map's positive values inside the part, in [0, 1], mean over the images.
        area: of the part in the images, in [0, 1]: what a map that lies nowhere would have.

    Example:
        >>> LiesOn("beak", 0.6, 0.05).share
        0.6
    """

    name: str
    share: float
    area: float


def followed_attributes(features: Tensor, present: Tensor, names: Sequence[str]) -> list[Followed | None]:
    """The attribute with the highest correlation with each feature.

    Args:
        features: `(rows, S)`, of images, or the means of classes.
        present: `(rows, A)` in [0, 1], of the same images or classes.
        names: of the A attributes.

    Returns:
        One per feature; None where no attribute rises with it.

    Example:
        >>> present = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
        >>> followed_attributes(torch.tensor([[0.1], [0.9], [0.8]]), present, ["red", "blue"])[0].name
        'red'
    """
    if len(features) < 3 or not len(names):
        return [None] * features.shape[1]
    correlation = _standard(features).T @ _standard(present) / len(features)
    best = correlation.argmax(dim=1)
    found = correlation.gather(1, best[:, None])[:, 0]
    return [
        Followed(names[int(place)], float(value)) if value > 0 else None
        for place, value in zip(best, found, strict=True)
    ]


def lies_on(maps: Tensor, masks: Tensor, names: Sequence[str]) -> LiesOn | None:
    """The part that holds the largest share of a feature's maps, compared with the part's area.

    Args:
        maps: `(N, h, w)`, where the feature looks in N images; negative values count as 0.
        masks: bool `(N, K, H, W)` of the K parts in the same images.
        names: of the parts.

    Returns:
        None where no map has a positive value inside any part.

    Example:
        >>> masks = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
        >>> masks[0, 0, 0, 0] = masks[0, 1, 1] = True
        >>> lies_on(torch.tensor([[[3.0, 0.0], [0.5, 0.5]]]), masks, ["beak", "feet"])
        LiesOn(name='beak', share=0.75, area=0.25)
    """
    large = resize(maps.double().clamp(min=0), (masks.shape[-2], masks.shape[-1]))
    mass = large.flatten(1).sum(dim=1)
    if not (mass > 0).any():
        return None
    inside = (large[:, None] * masks).flatten(2).sum(dim=2)[mass > 0] / mass[mass > 0, None]
    share, area = inside.mean(dim=0), masks.double().mean(dim=(0, 2, 3))
    best = int((share / area.clamp(min=1e-9)).masked_fill(share < share.max() / 2, -1).argmax())
    return LiesOn(names[best], float(share[best]), float(area[best])) if share[best] > 0 else None


def _standard(values: Tensor) -> Tensor:
    """Columns with mean 0 and variance 1; constant ones become 0."""
    centred = values.double() - values.double().mean(dim=0)
    size = centred.square().mean(dim=0).sqrt()
    flat = size <= 1e-9 * values.double().abs().amax(dim=0).clamp(min=1e-9)
    return torch.where(flat, 0.0, centred / size.masked_fill(flat, 1.0))
