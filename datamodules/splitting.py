"""Taking a stratified, seeded share out of the training images: for validation, and for a test where there is none."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from datamodules.images import Split


def divide(split: Split, fraction: float, seed: int, repeats: Mapping[int, int] | None = None) -> tuple[Split, Split]:
    """Take a seeded share of every class out of a split.

    Each class gives `fraction` of its images, rounded, but at least one and never its last. Equal images are taken
    together or not at all: a class may then give fewer, or a few more where its smallest set of equal images is larger.

    Args:
        split: what to divide.
        fraction: share to take, in [0, 1).
        seed: chooses the images.
        repeats: by index of an image, the index of the first image equal to it, both as in `split.indices`.

    Returns:
        What is left and what was taken, both in the order of `split`.
    """
    groups = _groups(split, repeats or {})
    generator = torch.Generator().manual_seed(seed)
    taken = torch.zeros(len(split), dtype=torch.bool)
    for label in range(int(split.labels.max()) + 1 if len(split) else 0):
        members = torch.nonzero(split.labels == label).flatten()
        order = members[torch.randperm(len(members), generator=generator)].tolist()
        room = min(max(round(fraction * len(members)), 1), len(members) - 1)
        whole = [groups[position] for position in order if position in groups]  # a repeat goes with its first
        given = 0
        for group in whole:
            if len(group) <= room:
                taken[group] = True
                room -= len(group)
                given += 1
        if not given and len(whole) > 1:
            taken[min(whole, key=len)] = True
    return _chosen(split, torch.nonzero(~taken).flatten()), _chosen(split, torch.nonzero(taken).flatten())


def _groups(split: Split, repeats: Mapping[int, int]) -> dict[int, list[int]]:
    """Return the positions of equal images by the first of them in the split."""
    by_first: dict[int, list[int]] = {}
    for position, index in enumerate(split.indices):
        by_first.setdefault(repeats.get(index, index), []).append(position)
    return {positions[0]: positions for positions in by_first.values()}


def _chosen(split: Split, positions: Tensor) -> Split:
    numbers: Sequence[int] = positions.tolist()
    names = [split.names[number] for number in numbers]
    return Split(split.images, [split.indices[number] for number in numbers], split.labels[positions], names)
