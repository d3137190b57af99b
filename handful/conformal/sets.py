"""From scores of classes to sets of classes with a guarantee, and how good such sets are."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_float, as_labels, as_tensor, check_real
from handful.errors import UserError


@dataclass(frozen=True)
class ConformalSets:
    """What calibration has found.

    Attributes:
        limits: `(C,)` the largest score with which a class is in a set.
        coverage: the share of images, in (0, 1), whose set holds the true class.
        per_class: whether that holds for every class by itself.

    Example:
        >>> scores = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.6, 0.4], [0.9, 0.1]])
        >>> sets = calibrate(scores, torch.tensor([0, 0, 1, 1]), coverage=0.75)
        >>> sets.of(torch.tensor([[0.3, 0.7]])).tolist()
        [[True, False]]
    """

    limits: Tensor
    coverage: float
    per_class: bool

    def of(self, scores: Tensor) -> Tensor:
        """The sets `(N, C)` of Booleans of images with these scores.

        Raises:
            UserError: scores of another number of classes, or NaN, which no set would hold.
        """
        scores = _scores(scores, len(self.limits))
        return scores <= self.limits.to(scores)


def calibrate(scores: Tensor, labels: Tensor, coverage: float, per_class: bool = False) -> ConformalSets:
    """The largest score that is still in a set: split-conformal prediction.

    For images like the calibration images, the set holds the true class with at least the probability `coverage`.

    Args:
        scores: `(N, C)` of images that the classifier was not trained on.
        labels: int64 `(N,)`.
        coverage: in (0, 1).
        per_class: whether every class is calibrated by its own images (Mondrian).

    Raises:
        UserError: a coverage out of range, scores that are NaN, or fewer images than it needs,
            `1 / (1 − coverage) − 1`.

    Source: Vovk et al., "Algorithmic learning in a random world" (2005).

    Example:
        >>> calibrate(torch.tensor([[0.1, 0.9], [0.7, 0.3], [0.2, 0.8]]), torch.tensor([0, 1, 0]), 0.5).limits.tolist()
        [0.20000000298023224, 0.20000000298023224]
    """
    check_coverage(coverage)
    scores = _scores(scores)
    labels = as_labels(labels, len(scores), scores.shape[1]).to(scores.device)
    own = scores.gather(1, labels[:, None])[:, 0].double()
    if not per_class:
        limit = _limit(own, coverage, "calibration")
        return ConformalSets(own.new_full((scores.shape[1],), limit), coverage, False)
    limits = [_limit(own[labels == c], coverage, f"calibration of class {c}") for c in range(scores.shape[1])]
    return ConformalSets(own.new_tensor(limits), coverage, True)


def check_coverage(coverage: float) -> None:
    """Refuse what is no share that sets could reach.

    Raises:
        UserError: naming the range.
    """
    if not 0 < check_real("conformal", coverage, -math.inf) < 1:
        raise UserError(f"conformal: a coverage between 0 and 1, not {coverage:g}")


def _scores(scores: Tensor, classes: int | None = None) -> Tensor:
    scores = as_float(scores, (None, classes), "scores")
    if bool(scores.isnan().any()):
        raise UserError("scores: hold NaN")
    return scores


def _limit(scores: Tensor, coverage: float, what: str) -> float:
    """The ⌈(n + 1) · coverage⌉-th smallest score."""
    place = math.ceil((len(scores) + 1) * coverage - 1e-9)
    if place > len(scores):
        needed = math.ceil(coverage / (1 - coverage) - 1e-9)
        raise UserError(f"conformal: {what} by {len(scores)} images; a coverage of {coverage:g} needs {needed}")
    return float(scores.sort().values[place - 1])


def stratified_halves(labels: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Indices of two halves in which every class has half of its images, the odd ones turn by turn; ascending.

    Whose turn it is is drawn, too: with an image per class, or three, the classes of one half must not be always the
    same, or the halves would not be alike.

    Args:
        labels: int64 `(N,)`, of classes of any sizes and in any order.
        seed: of the draw.

    Example:
        >>> first, second = stratified_halves(torch.tensor([0, 0, 1, 1, 1, 1]))
        >>> len(first), len(second)
        (3, 3)
    """
    labels = as_labels(labels)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    labels = labels.cpu()[order]
    turn = torch.randperm(int(labels.max()) + 1 if len(labels) else 0, generator=generator)
    order = order[turn[labels].argsort(stable=True)]
    return order[::2].sort().values, order[1::2].sort().values


@dataclass(frozen=True)
class SetQuality:
    """How good sets of classes are on labelled images.

    Attributes:
        coverage: share of the images whose set holds the true class.
        interval: of the coverage, 95 % (Wilson).
        size: mean number of classes.
        single: share of sets of one class.
        empty: share of empty sets.
        worst_class: the smallest coverage over classes with images.
        coherence: mean share of features that two classes of a set have in common; None where no set has two.
        attribute_coherence: the same of their attributes, where these are known.

    Example:
        >>> sets = torch.tensor([[True, False], [True, True]])
        >>> set_quality(sets, torch.tensor([0, 1])).size
        1.5
    """

    coverage: float
    interval: tuple[float, float]
    size: float
    single: float
    empty: float
    worst_class: float
    coherence: float | None
    attribute_coherence: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"interval": list(self.interval)}


def set_quality(
    sets: Tensor, labels: Tensor, weight: Tensor | None = None, attributes: Tensor | None = None
) -> SetQuality:
    """Measure sets.

    Args:
        sets: `(N, C)` Booleans.
        labels: int64 `(N,)`.
        weight: `(C, F)`, not 0 where a class uses a feature, for the coherence.
        attributes: `(C, A)`, share in [0, 1] of a class's images that have an attribute, for theirs.

    Raises:
        UserError: no images, or sets, labels and classes that do not belong together.

    Example:
        >>> set_quality(torch.tensor([[True, False], [True, True]]), torch.tensor([0, 1])).single
        0.5
    """
    sets = as_tensor(sets, "sets")
    if sets.ndim != 2 or sets.dtype != torch.bool or not sets.numel():
        raise UserError(f"sets: Booleans (images, classes), at least one image, not {tuple(sets.shape)} {sets.dtype}")
    for name, rows in (("weight", weight), ("attributes", attributes)):
        if rows is not None and (rows.ndim != 2 or len(rows) != sets.shape[1]):
            raise UserError(f"{name}: a row for each of the {sets.shape[1]} classes, not {tuple(rows.shape)}")
    labels = as_labels(labels, len(sets), sets.shape[1]).to(sets.device)
    held = sets.gather(1, labels[:, None])[:, 0]
    sizes = sets.sum(dim=1)
    images = torch.bincount(labels, minlength=sets.shape[1])
    right = torch.bincount(labels[held], minlength=sets.shape[1])
    return SetQuality(
        coverage=float(held.double().mean()),
        interval=wilson(int(held.sum()), len(sets)),
        size=float(sizes.double().mean()),
        single=float((sizes == 1).double().mean()),
        empty=float((sizes == 0).double().mean()),
        worst_class=float((right / images.clamp(min=1))[images > 0].min()),
        coherence=None if weight is None else _coherence(sets, (weight != 0).double()),
        attribute_coherence=None if attributes is None else _coherence(sets, attributes.double()),
    )


def _coherence(sets: Tensor, rows: Tensor) -> float | None:
    """Mean over sets of Σ min / Σ max of two classes' rows `(C, …)`: of Booleans, the share in common."""
    totals = rows.sum(dim=1)
    common = torch.stack([torch.minimum(row, rows).sum(dim=1) for row in rows])
    alike = (common / (totals[:, None] + totals - common).clamp(min=1e-12)).fill_diagonal_(0).to(sets.device)
    member = sets.to(alike)
    sizes = member.sum(dim=1)
    several = sizes > 1
    if not bool(several.any()):
        return None
    total = ((member @ alike) * member).sum(dim=1)
    return float((total / (sizes * (sizes - 1)).clamp(min=1))[several].mean())


def wilson(right: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share.

    Example:
        >>> low, high = wilson(90, 100)
        >>> round(low, 3), round(high, 3)
        (0.826, 0.945)
    """
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    reach = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def class_names_of(row: Tensor, names: Sequence[str], probabilities: Tensor) -> list[str]:
    """The names of a set `(C,)`, the most probable first."""
    order = probabilities.argsort(descending=True, stable=True)
    return [names[c] for c in order[row[order]].tolist()]
