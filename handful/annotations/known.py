"""What a data set knows of the images of a split: one interface for measures, whatever the data set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from handful.annotations.attributes import AttributeTable
from handful.annotations.pixels import PixelAnnotations


class PartPositions(Protocol):
    """Positions of parts, by dataset index.

    Example:
        >>> from handful.annotations import BirdAnnotations
        >>> from handful.birds import ToyBirdsDataset
        >>> birds = ToyBirdsDataset("test", n_classes=3, images_per_class=1, size=32)
        >>> parts: PartPositions = BirdAnnotations(birds)
        >>> parts.positions([0, 2])[0].shape
        torch.Size([2, 6, 2])
    """

    part_names: list[str]

    def positions(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """X and y of each part in pixels of the network's image, float64 `(B, P, 2)`; whether it is seen, `(B, P)`."""
        ...


class ObjectMasks(Protocol):
    """Masks of the object that the label is about, by dataset index.

    Example:
        >>> from handful.annotations import BirdAnnotations
        >>> from handful.birds import ToyBirdsDataset
        >>> birds = ToyBirdsDataset("test", n_classes=3, images_per_class=1, size=32)
        >>> masks: ObjectMasks = BirdAnnotations(birds)
        >>> masks.segmentation([0]).shape
        torch.Size([1, 32, 32])
    """

    def segmentation(self, indices: Sequence[int]) -> Tensor:
        """Bool `(B, H, W)`, as the network gets the images."""
        ...


class ObjectBoxes(Protocol):
    """Boxes around the object that the label is about, by dataset index.

    Example:
        >>> import torch
        >>> class Everything:
        ...     def boxes(self, indices):
        ...         return torch.tensor([[0.0, 0.0, 8.0, 8.0]]).double().expand(len(indices), 4)
        >>> boxes: ObjectBoxes = Everything()
        >>> boxes.boxes([0, 3]).shape
        torch.Size([2, 4])
    """

    def boxes(self, indices: Sequence[int]) -> Tensor:
        """Left, top, right, bottom in pixels of the network's image, float64 `(B, 4)`."""
        ...


@dataclass(frozen=True)
class Annotations:
    """What is known of the images of a split; None stands for nothing.

    Attributes:
        attributes: reads the attributes of every image of the split, in their order.
        masks: of concepts.
        segmentation: of the object.
        parts: of the object.
        boxes: around the object.
        hierarchy: by name of a class or group, the name of the group that it belongs to.

    Example:
        >>> from handful.annotations import BirdAnnotations
        >>> from handful.birds import ToyBirdsDataset
        >>> birds = BirdAnnotations(ToyBirdsDataset("test", n_classes=3, images_per_class=1, size=32))
        >>> known = Annotations(attributes=birds.attributes, parts=birds)
        >>> known.parts.part_names[0], known.boxes is None
        ('beak', True)
    """

    attributes: Callable[[], AttributeTable] | None = None
    masks: PixelAnnotations | None = None
    segmentation: ObjectMasks | None = None
    parts: PartPositions | None = None
    boxes: ObjectBoxes | None = None
    hierarchy: Mapping[str, str] | None = None
