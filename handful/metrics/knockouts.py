"""Toy birds with parts and background things drawn away, and what the classes say about their parts."""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from handful.birds.classes import ClassTable
from handful.birds.parts import PART_NAMES
from handful.birds.render import render
from handful.birds.scene import Scene


@dataclass(frozen=True)
class Knockouts:
    """An image, and the same with things missing.

    Attributes:
        parts: uint8 `(2 ** P, 3, S, S)`; bit p of the index says whether part p of `PART_NAMES` is drawn, so that the
            last is the whole image. The body is always there.
        part_masks: bool `(P, S, S)`: the pixels that show something of each part.
        things: uint8 `(K, 3, S, S)`, each without one thing of the background: leaves, clouds, berries … those in
            front of the bird stay, and those that are not seen are none.
        thing_masks: bool `(K, S, S)`: the pixels that change without the thing.

    Example:
        >>> from handful.birds import ToyBirdsDataset
        >>> drawn = knock_out(ToyBirdsDataset(n_classes=4, images_per_class=1).scene(0), 16)
        >>> drawn.parts.shape, drawn.part_masks.shape
        (torch.Size([64, 3, 16, 16]), torch.Size([6, 16, 16]))
    """

    parts: Tensor
    part_masks: Tensor
    things: Tensor
    thing_masks: Tensor


def knock_out(scene: Scene, size: int) -> Knockouts:
    """Draw a scene without each set of parts and without each background thing, `size` pixels wide and high."""
    whole = render(scene, size)
    subsets = [
        _pixels(scene, size, [name for bit, name in enumerate(PART_NAMES) if not code >> bit & 1])
        for code in range(2 ** len(PART_NAMES))
    ]
    drawn = _as_tensor(whole.image)
    changed = [_pixels(other, size) for other in _without_a_thing(scene)]
    seen = [(image, mask) for image in changed if bool((mask := (image != drawn).any(dim=0)).any())]
    empty = torch.zeros(0, *drawn.shape, dtype=torch.uint8), torch.zeros(0, size, size, dtype=torch.bool)
    things, masks = (torch.stack(list(one)) for one in zip(*seen, strict=True)) if seen else empty
    return Knockouts(torch.stack(subsets), torch.from_numpy(whole.masks), things, masks)


def _without_a_thing(scene: Scene) -> Iterator[Scene]:
    ornaments, distractors = scene.backdrop.ornaments, scene.distractors
    for i in range(len(ornaments)):
        yield replace(scene, backdrop=replace(scene.backdrop, ornaments=ornaments[:i] + ornaments[i + 1 :]))
    for i in range(len(distractors)):
        yield replace(scene, distractors=distractors[:i] + distractors[i + 1 :])


def _pixels(scene: Scene, size: int, remove: Collection[str] = ()) -> Tensor:
    return _as_tensor(render(scene, size, remove).image)


def _as_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def class_variants(table: ClassTable) -> Tensor:
    """Return the variant of each part in each class, int64 `(C, P)`; −1 for parts that do not decide.

    Example:
        >>> from handful.birds import class_table
        >>> class_variants(class_table(3, deciding_parts=["wing"], min_distance=1))[:, [0, 2]].unique()
        tensor([-1])
    """
    rows = [[bird.variants.get(name, -1) for name in PART_NAMES] for bird in table.classes]
    return torch.tensor(rows)


def sufficient_sets(variants: Tensor) -> list[Tensor]:
    """Return, per class, the smallest sets of parts that no other class shares, bool `(sets, P)`.

    A set is among them when no part can be left out of it.

    Args:
        variants: int64 `(C, P)`, −1 for parts that do not decide.

    Example:
        >>> sufficient_sets(torch.tensor([[0, 0], [0, 1], [1, 1]]))[0].int()  # the second part alone
        tensor([[0, 1]], dtype=torch.int32)
    """
    n_parts = variants.shape[1]
    subsets = torch.tensor(list(itertools.product((False, True), repeat=n_parts)))
    found = []
    for label in range(len(variants)):
        others = torch.arange(len(variants)) != label
        differs = (variants[others] != variants[label]).float()  # (C − 1, P)
        enough = ((subsets.float() @ differs.T) > 0).all(dim=1)
        chosen = subsets[enough]
        # of two sets of which one holds the other, the smaller
        inside = (chosen[:, None] & ~chosen[None]).sum(dim=2) == 0
        found.append(chosen[inside.sum(dim=0) == 1])
    return found


def contrasting_classes(variants: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each class, two others that share disjoint parts with it.

    Of all such pairs the first whose smaller share has the most parts.

    Args:
        variants: int64 `(C, P)`, −1 for parts that do not decide.

    Returns:
        The pairs int64 `(C, 2)`, −1 where there is none, and the parts that each shares, bool `(C, 2, P)`.

    Example:
        >>> pairs, shared = contrasting_classes(torch.tensor([[0, 0], [0, 1], [1, 0]]))
        >>> pairs[0].tolist(), shared[0].int().tolist()
        ([1, 2], [[1, 0], [0, 1]])
    """
    n_classes, n_parts = variants.shape
    same = (variants[:, None] == variants[None]) & (variants[:, None] >= 0)
    pairs, shared = torch.full((n_classes, 2), -1), torch.zeros(n_classes, 2, n_parts, dtype=torch.bool)
    for label in range(n_classes):
        most = 0
        for one, other in itertools.combinations([c for c in range(n_classes) if c != label], 2):
            parts = same[label, [one, other]]
            smaller = int(parts.sum(dim=1).min())
            if smaller > most and not bool((parts[0] & parts[1]).any()):
                most, pairs[label], shared[label] = smaller, torch.tensor([one, other]), parts
    return pairs, shared
