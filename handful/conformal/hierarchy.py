"""The classes that are left after each feature of an image, and sets of classes along that hierarchy (CHiQPM)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from handful.conformal.sets import check_coverage
from handful.conversions import as_float, as_labels
from handful.errors import UserError


def class_paths(present: Tensor, assignment: Tensor) -> tuple[Tensor, Tensor]:
    """Every class's features in the order in which they are present in an image.

    Args:
        present: `(N, n)`, the chosen features in units of their standard deviations, at least 0; 0 is absent.
        assignment: `(C, n)` Booleans, exactly k per class.

    Returns:
        features int64 `(N, C, k)`, −1 where no further one is present, and their values `(N, C, k)`, falling.

    Raises:
        UserError: classes with different numbers of features, or none; values of other features, or NaN.

    Example:
        >>> features, values = class_paths(torch.tensor([[1.0, 3.0, 0.0]]), torch.tensor([[1, 1, 0], [0, 1, 1]]).bool())
        >>> features.tolist()
        [[[1, 0], [1, -1]]]
    """
    counts = assignment.sum(dim=1)
    if not len(counts) or not bool((counts == counts[0]).all()) or not counts[0]:
        raise UserError("a hierarchy needs a binary head: as many features for every class")
    present = as_float(present, (None, assignment.shape[1]), "present")
    if bool(present.isnan().any()):
        raise UserError("present: holds NaN")
    own = assignment.nonzero()[:, 1].view(len(assignment), -1)  # (C, k), ascending
    values, order = present[:, own].clamp(min=0).sort(dim=2, descending=True, stable=True)
    features = own.expand(len(present), -1, -1).gather(2, order)
    return torch.where(values > 0, features, -1), values


def shared_steps(features: Tensor, predicted: Tensor) -> Tensor:
    """How many steps `(N, C)` each class's path shares with the predicted class's.

    Args:
        features: `(N, C, k)`, see `class_paths`.
        predicted: int64 `(N,)`.

    Example:
        >>> shared_steps(torch.tensor([[[1, 0], [1, 2], [0, 2]]]), torch.tensor([0])).tolist()
        [[2, 1, 0]]
    """
    own = features[torch.arange(len(features)), predicted][:, None]
    equal = (features == own) & (features >= 0)
    return equal.int().cumprod(dim=2).sum(dim=2)


@dataclass(frozen=True)
class Hierarchy:
    """Scores of classes along the hierarchy, for conformal sets.

    Attributes:
        assignment: `(C, n)` Booleans.
        level: n_limit: classes that do not share so many steps with the predicted one are the strangest.

    Source: CHiQPM (NeurIPS 2025).

    Example:
        >>> hierarchy = Hierarchy(torch.tensor([[1, 1, 0], [0, 1, 1]]).bool(), level=1)
        >>> hierarchy.scores(torch.tensor([[1.0, 3.0, 0.0]]), torch.tensor([0])).tolist()
        [[-1.0, 0.0]]
    """

    assignment: Tensor
    level: int

    @classmethod
    def fit(
        cls, present: Tensor, predicted: Tensor, labels: Tensor, assignment: Tensor, coverage: float
    ) -> "Hierarchy":
        """The highest level at which the true class is still among those left for a share `coverage` of the images.

        The images must not be those that the scores are calibrated on.

        Args:
            present: `(N, n)`, see `class_paths`.
            predicted: int64 `(N,)`.
            labels: int64 `(N,)`.
            assignment: `(C, n)` Booleans.
            coverage: in (0, 1).

        Raises:
            UserError: a coverage out of range, or no images.
        """
        check_coverage(coverage)
        if not len(present):
            raise UserError("conformal: no images to choose the hierarchy's level by")
        labels = as_labels(labels, len(present), len(assignment)).to(present.device)
        features, _ = class_paths(present, assignment)
        steps = shared_steps(features, predicted).gather(1, labels[:, None])[:, 0]
        levels = [n for n in range(features.shape[2] + 1) if float((steps >= n).double().mean()) >= coverage]
        return cls(assignment, max(levels))  # at level 0 every class is left

    def scores(self, present: Tensor, predicted: Tensor) -> Tensor:
        """How strange classes are `(N, C)`: −(the first feature off the path) − Σ of those shared below the level."""
        features, values = class_paths(present, self.assignment)
        steps = shared_steps(features, predicted)
        place = torch.arange(features.shape[2], device=features.device)
        shared = place < steps[:, :, None]
        below = (values * (shared & (place >= self.level))).sum(dim=2)
        first_off = (values * (place == steps[:, :, None])).sum(dim=2)
        return torch.where(steps >= self.level, 0.0 - first_off - below, 0.0)


def level_sizes(features: Tensor, predicted: Tensor) -> Tensor:
    """How many classes are left `(N, k + 1)` after 0, 1, … k steps."""
    steps = shared_steps(features, predicted)
    levels = torch.arange(features.shape[2] + 1, device=features.device)
    return (steps[:, :, None] >= levels).sum(dim=1)
