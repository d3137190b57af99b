"""A training image as it is augmented, with its parts, box and masks where the augmentation has moved them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.augmentation import Augmentation, as_sample
from handful.annotations import Annotations


@dataclass(frozen=True)
class Marks:
    """What is known to lie on an image, in its pixels, (0, 0) being the centre of the first one.

    Attributes:
        parts: x and y of P parts, float64 `(P, 2)`.
        seen: whether each is seen, bool `(P,)`.
        box: left, top, right, bottom around the object, float64 `(4,)`, counted from the image's corner; None without.
        masks: bool `(M, h, w)`: of the concepts, then of the object, as far as they are known.
    """

    parts: Tensor
    seen: Tensor
    box: Tensor | None
    masks: Tensor


@dataclass(frozen=True)
class Augmented:
    """A training image of an epoch, and what lies on it.

    Attributes:
        image: float32 `(3, S, S)`, normalised: the training loader's.
        marks: in its pixels; parts that it does not show any more are not seen, the box ends where the image does.
    """

    image: Tensor
    marks: Marks


def marks_on_image(known: Annotations, index: int, size: int, image: Tensor) -> Marks:
    """Return what annotations in pixels of the network's square say, in those of the image that the square is cut from.

    Args:
        known: of the split.
        index: of the image in it.
        size: side of the square, the middle of the image.
        image: `(3, h, w)`, h and w at least `size`.
    """
    height, width = image.shape[-2:]
    left, top = round((width - size) / 2), round((height - size) / 2)
    by = torch.tensor([left, top], dtype=torch.float64)
    found = [torch.zeros(0, size, size, dtype=torch.bool)]
    if known.masks is not None:
        found.append(known.masks.masks([index])[0])
    if known.segmentation is not None:
        found.append(known.segmentation.segmentation([index]))
    squares = torch.cat(found)
    masks = torch.zeros(len(squares), height, width, dtype=torch.bool)
    masks[:, top : top + size, left : left + size] = squares
    parts, seen = torch.zeros(0, 2, dtype=torch.float64), torch.zeros(0, dtype=torch.bool)
    if known.parts is not None:
        places, visible = known.parts.positions([index])
        parts, seen = places[0].double() + by, visible[0]
    box = None if known.boxes is None else known.boxes.boxes([index])[0] + by.repeat(2)
    return Marks(parts, seen, box, masks)


def augmented_pixels(augment: Augmentation, image: Tensor, marks: Marks, seed: int) -> tuple[Tensor, Marks]:
    """Augment an image, and move what lies on it by the same draw.

    Parts travel as boxes of one pixel: torchvision moves boxes by their edges throughout, but mirrors key points by
    their pixels and turns them by their edges.

    Args:
        augment: the augmentation.
        image: uint8 `(3, h, w)`.
        marks: in its pixels.
        seed: of the draw.

    Returns:
        uint8 `(3, S, S)`, the same as `augment(image, seed)`, and the marks in its pixels.
    """
    boxes = torch.cat([marks.parts, marks.parts + 1], dim=1)
    if marks.box is not None:
        boxes = torch.cat([boxes, marks.box[None]])
    # torchvision cannot move an empty tensor everywhere
    fill = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    sample = as_sample(image, torch.cat([boxes, fill]), torch.cat([marks.masks, _nothing(image)]))
    moved = augment.together(sample, seed)
    edges = moved["boxes"].as_subclass(Tensor)[:-1]
    count, side = len(marks.parts), augment.size
    parts = (edges[:count, :2] + edges[:count, 2:]) / 2 - 0.5
    inside = ((parts >= -0.5) & (parts < side - 0.5)).all(dim=1)
    box = None if marks.box is None else edges[count].clamp(0, side)
    masks = moved["masks"].as_subclass(Tensor)[:-1]
    return moved["image"].as_subclass(Tensor), Marks(parts, marks.seen & inside, box, masks)


def _nothing(image: Tensor) -> Tensor:
    shape: Sequence[int] = (1, *image.shape[-2:])
    return torch.zeros(shape, dtype=torch.bool)
