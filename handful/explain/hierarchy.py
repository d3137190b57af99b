"""Feature by feature from all classes to the predicted one, as a binary head decides (CHiQPM)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from handful.conformal.hierarchy import class_paths, shared_steps
from handful.explain.feature_names import feature_label
from handful.networks import Head
from handful.networks.heads import SparseHead

#: So many classes that are left are named, more are counted.
LISTED = 4


@dataclass(frozen=True)
class Level:
    """One step of the way.

    Attributes:
        feature: its number; the strongest present one of the predicted class that has not been taken yet.
        value: in standard deviations above its mean.
        classes: names of the classes that are left: those with the same strongest features in the same order, the
            predicted one first.

    Example:
        >>> Level(3, 1.5, ("owl", "wren")).to_dict()
        {'feature': 3, 'value': 1.5, 'classes': ['owl', 'wren']}
    """

    feature: int
    value: float
    classes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"feature": self.feature, "value": self.value, "classes": list(self.classes)}


def has_hierarchy(head: Head) -> bool:
    """Whether every class has as many features as any other, all for it and of one weight."""
    if not isinstance(head, SparseHead):
        return False
    counts = (head.weight > 0).sum(dim=1)
    equal = (head.weight == 0) | (head.weight == head.weight.max())
    return bool(counts[0] > 0) and bool((counts == counts[0]).all()) and bool(equal.all())


@torch.no_grad()
def hierarchy(head: Head, features: Tensor, predicted: int, names: Sequence[str]) -> tuple[Level, ...]:
    """The steps from all classes to those that the image cannot tell apart; none where the head has no hierarchy.

    Args:
        head: of the classifier.
        features: `(F,)`, pooled, of one image.
        predicted: the class whose features lead the way.
        names: of the classes.

    Source: CHiQPM (NeurIPS 2025).
    """
    if not isinstance(head, SparseHead) or not has_hierarchy(head):
        return ()
    present = head.standardise(features[None].to(head.mean)).clamp(min=0).cpu()
    paths, values = class_paths(present, (head.weight != 0).cpu())
    steps = shared_steps(paths, torch.tensor([predicted]))[0]
    selection, path = head.selection.tolist(), paths[0, predicted].tolist()
    levels = []
    for place, feature in enumerate(path):
        if feature < 0:  # the predicted class's other features are absent
            break
        left = [c for c in (steps > place).nonzero()[:, 0].tolist() if c != predicted]
        classes = tuple(names[c] for c in (predicted, *left))
        levels.append(Level(selection[feature], float(values[0, predicted, place]), classes))
    return tuple(levels)


def steps_in_words(levels: Sequence[Level], classes: int, names: Mapping[int, str] | None = None) -> str:
    """The steps in one line: how many classes are left after each feature, and which where they are few.

    Args:
        levels: of an image, see `hierarchy`.
        classes: how many there are in all.
        names: feature → name that a person gave it.

    Example:
        >>> steps_in_words([Level(3, 2.0, ("owl", "wren")), Level(8, 1.0, ("owl",))], 5, {8: "ears"})
        '5 classes → feature 3: 2 (owl, wren) → ears (8): owl'
    """
    parts = [f"{classes:,} classes"]
    for level in levels:
        count = len(level.classes)
        left = level.classes[0] if count == 1 else f"{count:,}"
        some = f" ({', '.join(level.classes)})" if 1 < count <= LISTED else ""
        parts.append(f"{feature_label(level.feature, names or {})}: {left}{some}")
        if count == 1:
            break
    return " → ".join(parts)
