"""The toy birds as a torch data set."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from handful.birds.classes import ClassTable, class_table
from handful.birds.difficulty import DIFFICULTIES
from handful.birds.parts import PART_NAMES, PARTS
from handful.birds.render import MIN_SIZE, Rendering, render
from handful.birds.scene import Scene, draw_scene
from handful.errors import UserError

Split = Literal["train", "val", "test"]

# The splits take their scenes from ranges of indices that never meet.
_SPLIT_START: dict[str, int] = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}


class ToyBirdsDataset(Dataset[tuple[Tensor, int]]):
    """Toy birds: item `i` is `(image, label)`, the image uint8 `(3, size, size)`, drawn when it is asked for.

    Image `i` shows class `i % n_classes` and depends on (seed, split, i, class table) alone, so more images or
    another order change none of them.

    Args:
        split: "train", "val" or "test".
        n_classes: number of classes.
        images_per_class: images of each class in this split.
        size: side of the images in pixels, at least 16.
        seed: chooses the class table and the images.
        difficulty: "easy", "medium" or "hard"; see `Difficulty`.
        deciding_parts: parts that may tell classes apart; all by default. The others vary from image to image.

    Raises:
        UserError: an argument out of its range, or more classes than the deciding parts can tell apart.

    Example:
        >>> image, label = ToyBirdsDataset(n_classes=4, images_per_class=2, size=32)[5]
        >>> image.shape, label
        (torch.Size([3, 32, 32]), 1)
    """

    def __init__(
        self,
        split: Split = "train",
        n_classes: int = 10,
        images_per_class: int = 100,
        size: int = 64,
        seed: int = 0,
        difficulty: str = "easy",
        deciding_parts: Sequence[str] = PART_NAMES,
    ) -> None:
        if split not in _SPLIT_START:
            raise UserError(f"split must be train, val or test, not {split!r}.")
        if difficulty not in DIFFICULTIES:
            raise UserError(f"difficulty must be one of {', '.join(DIFFICULTIES)}, not {difficulty!r}.")
        if not 0 <= images_per_class <= 1_000_000_000 // max(n_classes, 1):
            raise UserError(
                f"images_per_class must not be negative nor beyond a thousand million images, not {images_per_class}."
            )
        if size < MIN_SIZE:
            raise UserError(f"size must be at least {MIN_SIZE} pixels, not {size}.")
        if seed < 0:
            raise UserError(f"seed must not be negative, not {seed}.")
        self.split = split
        self.size = size
        self.seed = seed
        self.images_per_class = images_per_class
        self.difficulty = DIFFICULTIES[difficulty]
        self.classes: ClassTable = class_table(n_classes, self.difficulty.min_distance, deciding_parts, seed=seed)

    def __len__(self) -> int:
        return len(self.classes) * self.images_per_class

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        scene = self.scene(index)
        return torch.from_numpy(render(scene, self.size).image).permute(2, 0, 1).contiguous(), scene.label

    def scene(self, index: int) -> Scene:
        """Return the scene of image `index`, to be drawn by `render` with whatever changes."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        bird = self.classes[index % len(self.classes)]
        return draw_scene(bird, self.difficulty, self.seed, _SPLIT_START[self.split] + index)

    def rendering(
        self, index: int, remove: Collection[str] = (), replace: Mapping[str, int] | None = None
    ) -> Rendering:
        """Draw image `index`, with parts removed or replaced if asked; see `render`."""
        return render(self.scene(index), self.size, remove, replace)

    def masks(self, index: int) -> npt.NDArray[np.bool_]:
        """Return bool `(parts, size, size)`: the pixels of image `index` that show each part."""
        return self.rendering(index).masks

    def attributes(self, index: int) -> Tensor:
        """Return the attribute vector of image `index`: float32, one-hot variants, as `attribute_names`."""
        return attribute_vector(self.scene(index))

    @property
    def labels(self) -> Tensor:
        """Labels of all images, int64 `(N,)`."""
        return torch.arange(len(self)) % len(self.classes)


def attribute_names() -> list[str]:
    """Return the names of the attributes, "part:variant", in the order of `attribute_vector`.

    Example:
        >>> all(":" in name for name in attribute_names())
        True
    """
    return [f"{part.name}:{variant.name}" for part in PARTS for variant in part.variants]


def attribute_vector(scene: Scene) -> Tensor:
    """Return float32 `(attributes,)`: 1 for the variant that each part of the scene has, else 0.

    Example:
        >>> scene = ToyBirdsDataset(n_classes=4, images_per_class=1).scene(0)
        >>> int(attribute_vector(scene).sum()) == len(PART_NAMES)
        True
    """
    return torch.tensor(
        [float(scene.variants[part.name] == number) for part in PARTS for number in range(len(part.variants))]
    )
