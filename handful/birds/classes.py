"""The classes: which variant of which part each of them has, in families whose members differ in few parts."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from handful.birds.parts import PART_NAMES, PARTS
from handful.errors import UserError


@dataclass(frozen=True)
class BirdClass:
    """A class: the variants of its deciding parts, by part name. The other parts differ from image to image.

    Example:
        >>> table = class_table(4)
        >>> table[2].label, table[2].family
        (2, 0)
    """

    label: int
    name: str
    family: int
    variants: dict[str, int]


@dataclass(frozen=True)
class ClassTable:
    """All classes of a data set, and the parts that may tell them apart (`deciding_parts`).

    Example:
        >>> table = class_table(4)
        >>> len(table), len(table.differing_parts(0, 1)) >= 3
        (4, True)
    """

    classes: tuple[BirdClass, ...]
    deciding_parts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, label: int) -> BirdClass:
        return self.classes[label]

    @property
    def names(self) -> list[str]:
        """Class names, by label."""
        return [bird.name for bird in self.classes]

    def differing_parts(self, first: int, second: int) -> tuple[str, ...]:
        """Return the parts in which the classes with the labels `first` and `second` differ."""
        one, other = self.classes[first].variants, self.classes[second].variants
        return tuple(part for part in self.deciding_parts if one[part] != other[part])


def class_table(
    n_classes: int,
    min_distance: int = 3,
    deciding_parts: Sequence[str] = PART_NAMES,
    family_size: int = 4,
    seed: int = 0,
) -> ClassTable:
    """Choose the classes, the same for the same arguments.

    The first of a family is drawn at random; the others change `min_distance` of its parts. A longer table begins
    with the classes of a shorter one.

    Args:
        n_classes: how many classes, at least 2.
        min_distance: any two classes differ in at least so many parts (at most the number of deciding parts).
        deciding_parts: names of the parts that may tell classes apart; a single one makes classes that differ in
            nothing else.
        family_size: how many classes a family has.
        seed: chooses the table.

    Raises:
        UserError: an unknown part, fewer than two classes, or more classes than the parts can tell apart.

    Example:
        >>> class_table(3, deciding_parts=["wing"], min_distance=1).differing_parts(0, 1)
        ('wing',)
    """
    unknown = [part for part in deciding_parts if part not in PART_NAMES]
    if unknown or not deciding_parts or len(set(deciding_parts)) < len(deciding_parts):
        raise UserError(
            f"deciding_parts takes different names among {', '.join(PART_NAMES)}, not {list(deciding_parts)}."
        )
    if n_classes < 2:
        raise UserError(f"n_classes must be at least 2, not {n_classes}.")
    sizes = [len(part.variants) for part in PARTS if part.name in deciding_parts]
    parts = tuple(name for name in PART_NAMES if name in deciding_parts)
    distance = min(min_distance, len(parts))
    codes = np.array(list(itertools.product(*map(range, sizes))))
    rng = np.random.default_rng([seed, 7001])
    nearest = np.full(len(codes), len(parts) + 1)  # distance of every code to the nearest class chosen so far
    classes: list[BirdClass] = []
    first = codes[0]
    for label in range(n_classes):
        free = nearest >= distance
        if not free.any():
            raise UserError(
                f"n_classes is {n_classes}, but only {label} classes were found that differ in at least {distance} of "
                f"the parts {', '.join(parts)}: ask for fewer classes, more deciding parts or a higher difficulty."
            )
        starts_family = label % family_size == 0
        relatives = free & ((codes != first).sum(axis=1) == distance)
        candidates = np.flatnonzero(relatives if not starts_family and relatives.any() else free)
        code = codes[candidates[int(rng.random() * len(candidates))]]
        if starts_family:
            first = code
        nearest = np.minimum(nearest, (codes != code).sum(axis=1))
        classes.append(_bird_class(label, label // family_size, dict(zip(parts, map(int, code), strict=True))))
    return ClassTable(tuple(classes), parts)


def _bird_class(label: int, family: int, variants: dict[str, int]) -> BirdClass:
    looks = [part.variants[variants[part.name]].name for part in PARTS if part.name in variants]
    return BirdClass(label, f"{label:03d}_" + "_".join(looks), family, variants)
