"""The constants of the QPM problem: the gain of each class from each feature, and how similar features are."""

from __future__ import annotations

import torch
from torch import Tensor

from handful.assignment.problem import AssignmentProblem, check_sizes
from handful.assignment.threshold import clique_threshold
from handful.errors import UserError

#: The published scale of the gains: the best assignment is worth at most so much.
SCALE = 1000.0


class ClassSums:
    """Sums over images from which `class_correlation` follows; sums of several processes or parts add up.

    Args:
        n_classes: C.
        n_features: F.

    Attributes:
        totals: (C, F) float64 sums of the features per class.
        squares: (F,) float64 sums of squares.
        counts: (C,) float64 images per class.

    Example:
        >>> sums = ClassSums(n_classes=2, n_features=2)
        >>> sums.update(torch.tensor([[1.0, 5.0], [0.0, 5.0]]), torch.tensor([0, 1]))
        >>> sums.class_correlation().tolist()
        [[1.0, 0.0], [-1.0, 0.0]]
    """

    def __init__(self, n_classes: int, n_features: int, device: torch.device | str | None = None) -> None:
        self.totals = torch.zeros(n_classes, n_features, dtype=torch.float64, device=device)
        self.squares = torch.zeros(n_features, dtype=torch.float64, device=device)
        self.counts = torch.zeros(n_classes, dtype=torch.float64, device=device)

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Add a batch: features `(B, F)` and labels `(B,)` in [0, C)."""
        features, labels = features.to(self.totals), labels.to(self.totals.device)
        self.totals.index_add_(0, labels, features)
        self.squares += features.square().sum(dim=0)
        self.counts += torch.bincount(labels, minlength=len(self.counts))

    def class_correlation(self) -> Tensor:
        """A `(C, F)`: Pearson correlation of each feature with each class's indicator, divided by max |A|.

        Constant features and classes without an image, or with all of them, get 0. Rounded to float32's 24 bits, so
        that the order in which images were added does not reach the choice of features.
        """
        images = self.counts.sum()
        share = self.counts / images
        mean = self.totals.sum(dim=0) / images
        variance = (self.squares / images - mean.square()).clamp(min=0)
        # what is left of a constant column after rounding is not variance
        constant = variance <= 1e-12 * (self.squares / images)
        covariance = self.totals / images - share[:, None] * mean
        scale = (share * (1 - share))[:, None] * variance
        correlation = torch.where((scale > 0) & ~constant, covariance / scale.clamp(min=1e-300).sqrt(), 0.0)
        return rounded(correlation / correlation.abs().max().clamp(min=1e-300))


def rounded(values: Tensor) -> Tensor:
    """Numbers in about [-1, 1] rounded to multiples of 2^-24: float64 sums in another order give the same ones."""
    return (values * 2.0**24).round() / 2.0**24


def class_correlation(features: Tensor, labels: Tensor, n_classes: int | None = None) -> Tensor:
    """A `(C, F)` of features `(N, F)` and labels `(N,)`, see `ClassSums`.

    Source: QPM (ICLR 2025), section "Constants".

    Example:
        >>> class_correlation(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    sums = ClassSums(int(labels.max()) + 1 if n_classes is None else n_classes, features.shape[1], features.device)
    sums.update(features, labels)
    return sums.class_correlation()


def feature_similarity(correlation: Tensor) -> Tensor:
    """R `(F, F)`: cosine similarity of the columns of A divided by its maximum, negatives 0, with a zero diagonal.

    Example:
        >>> feature_similarity(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])).tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    columns = correlation / correlation.norm(dim=0).clamp(min=1e-8)
    similarity = columns.T @ columns
    similarity = (similarity / similarity.abs().max().clamp(min=1e-300)).clamp(min=0)
    similarity = (similarity + similarity.T) / 2
    return similarity.fill_diagonal_(0)


def similarity_penalty(similarity: Tensor, threshold: float) -> Tensor:
    """R' `(F, F)`: similarities of at least the threshold, shifted and scaled to [0, 1] over all positive ones.

    Example:
        >>> similarity = torch.tensor([[0.0, 0.5, 0.25], [0.5, 0.0, 0.25], [0.25, 0.25, 0.0]])
        >>> similarity_penalty(similarity, threshold=0.4).tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    positive = similarity[similarity > 0]
    if not len(positive):
        return torch.zeros_like(similarity)
    low, high = positive.min(), positive.max()
    scaled = (similarity - low) / (high - low).clamp(min=1e-300)
    return torch.where(similarity >= threshold, scaled.clamp(min=0), 0.0).fill_diagonal_(0)


def qpm_problem(
    correlation: Tensor,
    bias: Tensor | None = None,
    *,
    n_features: int = 50,
    features_per_class: int = 5,
    threshold: float | None = None,
    rho: float = 0.0,
) -> AssignmentProblem:
    """The published problem from A.

    Args:
        correlation: (C, F) A, see `class_correlation`.
        bias: (F,) b, see `LocalityBias`; zero where None.
        n_features: n.
        features_per_class: k.
        threshold: t, from which on similar features are penalised; the smallest that leaves n mutually dissimilar
            features where None; infinite for no penalty.
        rho: int(rho · C) pairs of classes have to share all features but one (CHiQPM has 0.5).

    Raises:
        UserError: sizes out of range, or values that are not finite.

    Example:
        >>> correlation = class_correlation(torch.rand(40, 6), torch.arange(40) % 4)
        >>> problem = qpm_problem(correlation, n_features=4, features_per_class=2, threshold=float("inf"))
        >>> problem.n_classes, problem.n_candidates
        (4, 6)
    """
    check_sizes(correlation.shape[0], correlation.shape[1], n_features, features_per_class)
    if not correlation.isfinite().all():
        raise UserError("correlation: holds values that are not finite")
    if not 0 <= rho <= (len(correlation) - 1) / 2:
        raise UserError(f"rho: 0 to {(len(correlation) - 1) / 2:g} pairs per class, not {rho}")
    similarity = feature_similarity(correlation.double())
    if threshold is None:
        threshold = clique_threshold(similarity, n_features)
    return AssignmentProblem(
        gain=correlation.double() * (SCALE / (features_per_class * len(correlation))),
        penalty=similarity_penalty(similarity, threshold),
        bias=torch.zeros_like(similarity[0]) if bias is None else bias.double(),
        n_features=n_features,
        features_per_class=features_per_class,
        pairs=int(rho * len(correlation)),
    )
