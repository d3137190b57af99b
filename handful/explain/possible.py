"""The classes that an image may be of, by conformal sets, and the features that would decide between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

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
        shared: features that all of them use.
        own: class → features that none of the others uses.

    Example:
        >>> print(Possible(0.9, ("owl", "wren"), (3,), {"owl": (5,), "wren": (7,)}))
        one of owl, wren (90 %)
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

    def __str__(self) -> str:
        asked = f"({100 * self.coverage:g} %)"
        if not self.classes:
            return f"like no class {asked}"
        if len(self.classes) == 1:
            return f"{self.classes[0]} alone {asked}"
        return f"one of {', '.join(self.classes)} {asked}"


def possible_classes(row: Tensor, coverage: float, logits: Tensor, head: Head, names: Sequence[str]) -> Possible:
    """A set `(C,)` of Booleans as names, with what its classes share and what parts them.

    Args:
        row: the set.
        coverage: that it was calibrated for.
        logits: `(C,)` of the image.
        head: a sparse one says which features its classes use.
        names: of the classes.
    """
    members = [c for c in logits.argsort(descending=True, stable=True).tolist() if row[c]]
    shared: tuple[int, ...] = ()
    own: dict[str, tuple[int, ...]] = {}
    if isinstance(head, SparseHead) and 1 < len(members) <= FEW:
        uses = (head.weight != 0).cpu()[members]
        selection = head.selection.cpu()
        shared = tuple(selection[uses.all(dim=0)].tolist())
        alone = uses & (uses.sum(dim=0) == 1)
        own = {names[c]: tuple(selection[used].tolist()) for c, used in zip(members, alone.unbind(), strict=True)}
    return Possible(coverage, tuple(names[c] for c in members), shared, own)
