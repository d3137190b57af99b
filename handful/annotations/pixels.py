"""Pixel-wise annotations: which pixels of an image show which concept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

#: The kinds of concepts that Network Dissection counts.
KINDS = ("object", "part", "scene", "texture", "material", "colour")


@dataclass(frozen=True)
class Concept:
    """Something that pixels can show.

    Attributes:
        name: of the concept.
        kind: one of `KINDS`.

    Example:
        >>> Concept("wing", "part").kind
        'part'
    """

    name: str
    kind: str


class PixelAnnotations(Protocol):
    """Masks of concepts, by dataset index; one interface whatever the masks come from.

    Example:
        >>> from handful.annotations import BirdAnnotations
        >>> from handful.birds import ToyBirdsDataset
        >>> birds: PixelAnnotations = BirdAnnotations(ToyBirdsDataset("test", n_classes=3, images_per_class=1, size=32))
        >>> birds.masks([0, 2]).shape[2:]
        torch.Size([32, 32])
    """

    @property
    def concepts(self) -> Sequence[Concept]:
        """K concepts."""
        ...

    def masks(self, indices: Sequence[int]) -> Tensor:
        """Bool `(B, K, H, W)`: the pixels of images that show each concept, as the network gets them."""
        ...

    def annotated(self, indices: Sequence[int]) -> Tensor:
        """Bool `(B, K)`: whether an image was searched for the concept; an empty mask means "not there" only then."""
        ...
