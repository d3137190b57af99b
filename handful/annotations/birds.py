"""What the toy birds know of themselves: attributes, masks of parts, positions."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from handful.annotations.attributes import AttributeTable
from handful.annotations.pixels import Concept
from handful.birds import PART_NAMES, PARTS, ToyBirdsDataset, attribute_names
from handful.birds.scene import BACKDROPS

#: Drawn images that are kept in memory.
_KEPT = 1024

#: Patterns by which variants of parts are named.
_TEXTURES = ("spotted", "barred", "striped", "scaled", "dotted")


class BirdAnnotations:
    """Annotations of a split of toy birds, exact because the birds were drawn.

    Concepts are the bird (object), its parts (part), the background by its kind (scene) and patterned parts (texture).

    Args:
        birds: the split.

    Attributes:
        part_names: of the P parts.

    Example:
        >>> birds = BirdAnnotations(ToyBirdsDataset("test", n_classes=3, images_per_class=1, size=32))
        >>> [concept.name for concept in birds.concepts][:3]
        ['bird', 'beak', 'wing']
        >>> birds.positions([0])[0].shape
        torch.Size([1, 6, 2])
    """

    def __init__(self, birds: ToyBirdsDataset) -> None:
        self.birds = birds
        self._drawn = lru_cache(_KEPT)(birds.rendering)  # measures ask for the same images
        self.part_names = list(PART_NAMES)
        self.concepts: Sequence[Concept] = [
            Concept("bird", "object"),
            *(Concept(part, "part") for part in PART_NAMES),
            *(Concept(backdrop, "scene") for backdrop in BACKDROPS),
            *(Concept(texture, "texture") for texture in _TEXTURES),
        ]

    def masks(self, indices: Sequence[int]) -> Tensor:
        """Bool `(B, K, H, W)` in the order of `concepts`; a pixel of less than half bird is background."""
        rows = []
        for index in indices:
            scene, drawn = self.birds.scene(int(index)), self._drawn(int(index))
            bird, parts = drawn.bird >= 0.5, drawn.masks
            looks = [part.variants[scene.variants[part.name]].name for part in PARTS]
            backdrops = [~bird & (scene.backdrop.kind == kind) for kind in BACKDROPS]
            textures = [parts[[look == texture for look in looks]].any(axis=0) for texture in _TEXTURES]
            rows.append(np.stack([bird, *parts, *backdrops, *textures]))
        return torch.from_numpy(np.stack(rows))

    def annotated(self, indices: Sequence[int]) -> Tensor:
        """Bool `(B, K)`: every concept is known in every image."""
        return torch.ones(len(indices), len(self.concepts), dtype=torch.bool)

    def segmentation(self, indices: Sequence[int]) -> Tensor:
        """Bool `(B, H, W)`: the pixels of the bird."""
        return torch.from_numpy(np.stack([self._drawn(int(index)).bird >= 0.5 for index in indices]))

    def positions(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """X and y of each part's anchor in pixels, float64 `(B, P, 2)`, and whether the part is seen, bool `(B, P)`."""
        drawn = [self._drawn(int(index)) for index in indices]
        seen = np.stack([one.masks.any(axis=(1, 2)) for one in drawn])
        return torch.from_numpy(np.stack([one.positions for one in drawn])), torch.from_numpy(seen)

    def attributes(self) -> AttributeTable:
        """The variants of all parts, per image."""
        count = len(self.birds)
        present = [self.birds.attributes(index) for index in range(count)]
        rows = torch.stack(present) if count else torch.zeros(0, len(attribute_names()))
        return AttributeTable(attribute_names(), rows.double())
