"""The constants of the QPM problem: the gain of each class from each feature, and how similar features are."""

from __future__ import annotations

import math
import numbers
import warnings

import torch
from torch import Tensor

from handful.assignment.order import canonical_order, inverse
from handful.assignment.problem import AssignmentProblem, check_sizes
from handful.assignment.threshold import clique_threshold
from handful.conversions import as_float, as_labels, as_tensor, check_real, check_whole
from handful.errors import UserError
from handful.sparse.standardise import never_vary

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
        """Add a batch: features `(B, F)` of any number type and labels `(B,)` in [0, C).

        Raises:
            UserError: another shape or number of features, features that are not finite, labels out of range.
        """
        features = as_tensor(features, "features")
        if features.ndim != 2 or features.shape[1] != self.totals.shape[1]:
            raise UserError(f"features: shape (images, {self.totals.shape[1]}), not {tuple(features.shape)}")
        labels = as_labels(labels, len(features), len(self.counts)).to(self.totals.device)
        features = features.to(self.totals)
        if not features.isfinite().all():
            column = int((~features.isfinite()).any(dim=0).nonzero()[0])
            raise UserError(f"features: the values of feature {column} are not all finite")
        self.totals.index_add_(0, labels, features)
        self.squares += features.square().sum(dim=0)
        self.counts += torch.bincount(labels, minlength=len(self.counts))

    @property
    def mean(self) -> Tensor:
        """(F,) over all images."""
        return self.totals.sum(dim=0) / self.counts.sum()

    @property
    def std(self) -> Tensor:
        """(F,) population standard deviation."""
        return (self.squares / self.counts.sum() - self.mean.square()).clamp(min=0).sqrt()

    def class_correlation(self) -> Tensor:
        """A `(C, F)`: Pearson correlation of each feature with each class's indicator, divided by max |A|.

        Features that do not vary (`never_vary`) and classes without an image, or with all of them, get 0. Rounded to
        float32's 24 bits, so that the order in which images were added does not reach the choice of features.
        """
        images = self.counts.sum()
        share = self.counts / images
        mean, std = self.mean, self.std
        covariance = self.totals / images - share[:, None] * mean
        scale = (share * (1 - share)).sqrt()[:, None] * std
        correlation = torch.where((scale > 0) & ~never_vary(mean, std), covariance / scale.clamp(min=1e-300), 0.0)
        return rounded(correlation / correlation.abs().max().clamp(min=1e-300))


def rounded(values: Tensor) -> Tensor:
    """Numbers in about [-1, 1] rounded to multiples of 2^-24: float64 sums in another order give the same ones."""
    return (values * 2.0**24).round() / 2.0**24


def class_correlation(features: Tensor, labels: Tensor, n_classes: int | None = None) -> Tensor:
    """A `(C, F)` of features `(N, F)` and labels `(N,)`, see `ClassSums`.

    Args:
        features: (N, F) of any number type.
        labels: (N,) class numbers.
        n_classes: C; one more than the largest label where None. Classes without images are named in a warning.

    Raises:
        UserError: no images, shapes that do not belong together, features that are not finite, labels out of range.

    Source: QPM (ICLR 2025), section "Constants".

    Example:
        >>> class_correlation(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    features, labels = as_tensor(features, "features"), as_labels(labels)
    if features.ndim != 2 or not len(features) or not len(labels):
        raise UserError(f"features: shape (images, features) and at least one image, not {tuple(features.shape)}")
    count = max(int(labels.max()) + 1, 1) if n_classes is None else check_whole("n_classes", n_classes, 1)
    sums = ClassSums(count, features.shape[1], features.device)
    sums.update(features, labels)
    empty = (sums.counts == 0).nonzero()[:, 0].tolist()
    if empty:
        names = ", ".join(map(str, empty))
        warnings.warn(f"classes without images, whose features mean nothing: {names}", stacklevel=2)
    return sums.class_correlation()


def feature_similarity(correlation: Tensor) -> Tensor:
    """R `(F, F)`: cosine similarity of the columns of A divided by its maximum, negatives 0, with a zero diagonal.

    Example:
        >>> feature_similarity(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])).tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    order = canonical_order(correlation)  # the last bits of a matrix product depend on where a column stands
    columns = correlation[:, order]
    columns = columns / columns.norm(dim=0).clamp(min=1e-8)
    similarity = columns.T @ columns
    similarity = (similarity / similarity.abs().max().clamp(min=1e-300)).clamp(min=0)
    similarity = (similarity + similarity.T) / 2
    place = inverse(order)
    return similarity.fill_diagonal_(0)[place][:, place]


def similarity_threshold(correlation: Tensor, n_features: int) -> float:
    """The smallest similarity from which on pairs can be penalised: `clique_threshold`, whatever the features' order.

    Args:
        correlation: (C, F) A, see `class_correlation`.
        n_features: n.

    Raises:
        UserError: fewer than n features.

    Example:
        >>> 0 < similarity_threshold(class_correlation(torch.rand(40, 9), torch.arange(40) % 4), n_features=4) < 1
        True
    """
    return clique_threshold(feature_similarity(correlation[:, canonical_order(correlation)]), n_features)


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

    Features that correlate with no class, as those that do not vary, are never chosen.

    Raises:
        UserError: sizes out of range, values that are not finite, fewer than n features that correlate with a class.

    Example:
        >>> correlation = class_correlation(torch.rand(40, 6), torch.arange(40) % 4)
        >>> problem = qpm_problem(correlation, n_features=4, features_per_class=2, threshold=float("inf"))
        >>> problem.n_classes, problem.n_candidates
        (4, 6)
    """
    correlation = as_tensor(correlation, "correlation")
    if correlation.ndim != 2:
        raise UserError(f"correlation: shape (classes, features), not {tuple(correlation.shape)}")
    n_classes, count = correlation.shape
    if n_classes < 2:
        raise UserError(f"correlation: {n_classes} classes; at least two are needed")
    check_sizes(n_classes, count, n_features, features_per_class)
    check_rho(rho, n_classes)
    check_threshold(threshold)
    if not correlation.isfinite().all():
        raise UserError("correlation: holds values that are not finite")
    correlation = correlation.double()
    useless = ~correlation.any(dim=0)
    if count - int(useless.sum()) < n_features:
        raise UserError(
            f"n_features: {n_features}, but only {count - int(useless.sum())} of {count} features vary with the classes"
        )
    if threshold is None:
        threshold = similarity_threshold(correlation, n_features)
    bias = torch.zeros_like(correlation[0]) if bias is None else as_float(bias, (count,), "bias").to(correlation)
    # more than all gains, penalties and other biases together
    never = -(2 * SCALE + n_features**2 + 2 * n_features * float(bias.abs().max()))
    return AssignmentProblem(
        gain=correlation * (SCALE / (features_per_class * n_classes)),
        penalty=similarity_penalty(feature_similarity(correlation), threshold),
        bias=bias.masked_fill(useless, never),
        n_features=n_features,
        features_per_class=features_per_class,
        pairs=int(rho * n_classes),
    )


def check_rho(rho: float, n_classes: int) -> None:
    """Refuse a number of pairs per class that there cannot be.

    Raises:
        UserError: naming the range.
    """
    most = (n_classes - 1) / 2
    if not 0 <= check_real("rho", rho, -math.inf) <= most:
        raise UserError(f"rho: 0 to {most:g} pairs per class, not {rho}")


def check_threshold(threshold: float | None) -> None:
    """Refuse what is no similarity.

    Raises:
        UserError: naming what would be one.
    """
    if threshold is None or threshold == math.inf:
        return
    if isinstance(threshold, bool) or not isinstance(threshold, numbers.Real) or not float(threshold) >= 0:
        raise UserError(f"threshold: a similarity of at least 0, or infinity for no penalty, not {threshold!r}")
