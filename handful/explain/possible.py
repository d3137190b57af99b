"""The classes that an image may be of, by conformal sets, and the features that would decide between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from handful.explain.feature_names import feature_label
from handful.networks import Head
from handful.networks.heads import SparseHead

#: Sets of more classes are not taken apart.
FEW = 6


class Sets(Protocol):
    """Calibrated sets of classes."""

    @property
    def coverage(self) -> float:
        """The share of images whose set holds the true class."""

    def of(self, features: Tensor) -> Tensor:
        """Sets `(N, C)` of Booleans of features `(N, F)`, float32 on the CPU."""


@dataclass(frozen=True)
class Possible:
    """A set of classes with a guarantee.

    Attributes:
        coverage: share of images whose set holds the true class.
        classes: names, the most probable first; none for an image that is like no class.
        shared: features that speak for all of them, the strongest in the image first.
        own: class → features that speak for it and for none of the others; they would decide.

    Example:
        >>> print(Possible(0.9, ("owl", "wren"), (3,), {"owl": (5,), "wren": (7,)}))
        one of owl and wren (90 %), by feature 3; feature 5 would decide for owl, feature 7 for wren
    """

    coverage: float
    classes: tuple[str, ...]
    shared: tuple[int, ...]
    own: dict[str, tuple[int, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "coverage": self.coverage,
            "classes": list(self.classes),
            "shared": list(self.shared),
            "own": {name: list(features) for name, features in self.own.items()},
        }

    def sentence(self, names: Mapping[int, str] | None = None) -> str:
        """The set in words.

        Args:
            names: feature → name that a person gave it.

        Example:
            >>> Possible(0.9, ("owl",), (3, 5), {}).sentence({3: "round head"})
            'owl alone (90 %), by round head (3) and feature 5'
        """
        numbers = [*self.shared, *(feature for own in self.own.values() for feature in own)]
        labels = {feature: feature_label(feature, names or {}) for feature in numbers}
        asked = f"({100 * self.coverage:g} %)"
        if not self.classes:
            return f"like no class {asked}"
        if len(self.classes) > FEW:
            return f"one of {len(self.classes)} classes, {', '.join(self.classes[:3])} and others {asked}"
        by = f", by {in_words([labels[f] for f in self.shared])}" if self.shared else ""
        if len(self.classes) == 1:
            return f"{self.classes[0]} alone {asked}{by}"
        deciding = [(in_words([labels[f] for f in own]), name) for name, own in self.own.items() if own]
        would = ", ".join(
            f"{features} {'would decide ' if not place else ''}for {name}"
            for place, (features, name) in enumerate(deciding)
        )
        return f"one of {in_words(self.classes)} {asked}{by}{f'; {would}' if would else ''}"

    def __str__(self) -> str:
        return self.sentence()


def in_words(names: Sequence[str]) -> str:
    """Names with commas between and `and` before the last.

    Example:
        >>> in_words(["owl", "wren", "jay"])
        'owl, wren and jay'
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


@torch.no_grad()
def possible_classes(
    row: Tensor, coverage: float, logits: Tensor, head: Head, names: Sequence[str], features: Tensor
) -> Possible:
    """A set `(C,)` of Booleans as names, with what its classes share and what parts them.

    Args:
        row: the set.
        coverage: that it was calibrated for.
        logits: `(C,)` of the image.
        head: a sparse one says which features speak for its classes.
        names: of the classes.
        features: `(F,)`, pooled, of the image: shared features that are below their mean in it are left out.
    """
    members = [c for c in logits.argsort(descending=True, stable=True).tolist() if row[c]]
    shared: tuple[int, ...] = ()
    own: dict[str, tuple[int, ...]] = {}
    if isinstance(head, SparseHead) and 1 <= len(members) <= FEW:
        speaks = (head.weight > 0).cpu()[members]
        selection = head.selection.cpu()
        present = head.standardise(features[None].to(head.mean)).cpu()[0]
        order = present.argsort(descending=True, stable=True)
        shared = tuple(selection[order[(speaks.all(dim=0) & (present > 0))[order]]].tolist())
        if len(members) > 1:
            alone = speaks & (speaks.sum(dim=0) == 1)
            own = {names[c]: tuple(selection[used].tolist()) for c, used in zip(members, alone.unbind(), strict=True)}
    return Possible(coverage, tuple(names[c] for c in members), shared, own)
