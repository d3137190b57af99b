"""What fewer features, and fewer of them per class, cost in accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from handful.errors import UserError
from handful.networks import SparseHead
from handful.progress import tracked
from handful.report.tradeoff import tradeoff_figure
from handful.sparse import Selection, SparseRecord, fit_sparse_layer, select_features

#: Features `(N, F)` and labels `(N,)`.
Part = tuple[Tensor, Tensor]

#: Numbers of features that are tried where none are named, as shares of a given one.
SHARES = (0.25, 0.5, 1, 2, 4)

#: Numbers of features per class that are tried where none are named.
COUNTS = (1, 2, 3, 5, 10)


@dataclass(frozen=True)
class Size:
    """A sparse layer of one size.

    Attributes:
        n_features: how many features may decide in all.
        features_per_class: features per class, on average, at most.
        test_accuracy: in per cent.
        val_accuracy: in per cent; None without held-out images.
        features_used: how many have a weight in any class.
        weights_per_class: as it came out.
        features: the features selected.

    Example:
        >>> Size(6, 3, 98.5, None, 6, 2.5, [0, 3, 4, 7, 8, 9]).to_dict()["test_accuracy"]
        98.5
    """

    n_features: int
    features_per_class: int
    test_accuracy: float
    val_accuracy: float | None
    features_used: int
    weights_per_class: float
    features: list[int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def default_sizes(n_features: int, available: int) -> tuple[list[int], list[int]]:
    """Sizes to try around one number of features: numbers of features in all, and per class.

    Args:
        n_features: the middle of the range.
        available: features of the backbone.

    Example:
        >>> default_sizes(8, 16)
        ([2, 4, 8, 16], [1, 2, 3, 5, 10])
    """
    totals = sorted({max(1, min(available, round(share * n_features))) for share in SHARES})
    return totals, [count for count in COUNTS if count <= available]


def trade_off(
    train: Part,
    test: Part,
    num_classes: int,
    n_features: Sequence[int],
    features_per_class: Sequence[int],
    val: Part | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[Size]:
    """Solve the sparse layer for many sizes on the same features.

    Args:
        train: features and labels to solve on.
        test: features and labels to measure on.
        num_classes: C.
        n_features: how many features may decide in all.
        features_per_class: features per class, on average.
        val: held-out features and labels.
        options: further arguments of `fit_sparse_layer`, `selection` among them.

    Returns:
        One per size, in the order of the arguments; sizes with more features per class than in all are left out.

    Raises:
        UserError: no size is left.

    Example:
        >>> labels = torch.arange(60) % 3
        >>> features = torch.rand(60, 5)
        >>> features[:, :3] += 2 * torch.eye(3)[labels]
        >>> sizes = trade_off((features, labels), (features, labels), 3, [2, 3], [1], options={"n_lambdas": 20})
        >>> [size.n_features for size in sizes]
        [2, 3]
    """
    sizes = [(total, count) for total in n_features for count in features_per_class if count <= total]
    if not sizes:
        raise UserError(
            f"--features_per_class: {min(features_per_class)} and more per class, but only {max(n_features)} "
            "features in all"
        )
    given = dict(options or {})
    given["selection"] = _selection(train, max(n_features), num_classes, given.get("selection", "greedy"))
    found = []
    for total, count in tracked(sizes, "solving sparse layers", "layers"):
        head, record = fit_sparse_layer(
            *train, num_classes=num_classes, n_features=total, features_per_class=count, val=val, **given
        )
        found.append(_size(head, record, total, count, test))
    return found


def trade_off_figure(
    sizes: Sequence[Mapping[str, Any]],
    dense_accuracy: float,
    n_dense: int,
    own: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Draw test accuracy over features per class, a line for every number of features.

    Args:
        sizes: as `Size.to_dict` gives them.
        dense_accuracy: of the dense stage, in per cent.
        n_dense: its number of features.
        own: stage → its `accuracy`, `n_features` and `features_per_class`: points of the run itself.
    """
    return tradeoff_figure(accuracy_grid(sizes), dense_accuracy, n_dense, own)


def accuracy_grid(sizes: Sequence[Mapping[str, Any]]) -> dict[int, dict[int, float]]:
    """Test accuracy in per cent: features in all → features per class → accuracy."""
    grid: dict[int, dict[int, float]] = {}
    for size in sizes:
        grid.setdefault(size["n_features"], {})[size["features_per_class"]] = size["test_accuracy"]
    return grid


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Accuracy in per cent, four digits after the point."""
    return round(100 * logits.argmax(dim=1).eq(labels).double().mean().item(), 4)


def _selection(train: Part, largest: int, num_classes: int, method: str) -> Selection | str:
    """The largest selection: features join one by one, so it holds all others. Stochastic ones are drawn for each."""
    return select_features(*train, largest, num_classes=num_classes, progress=True) if method == "greedy" else method


def _size(head: SparseHead, record: SparseRecord, total: int, count: int, test: Part) -> Size:
    with torch.no_grad():
        reached = accuracy(head(test[0]), test[1])
    held_out = record.layer.get("val_accuracy")
    return Size(
        n_features=total,
        features_per_class=count,
        test_accuracy=reached,
        val_accuracy=None if held_out is None else 100 * held_out,
        features_used=head.n_features,
        weights_per_class=head.features_per_class,
        features=head.selection.tolist(),
    )
