"""Weights of the classes in the training loss, for data sets in which some classes have few images."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from handful.conversions import as_labels
from handful.errors import UserError

#: As given in a config: by the number of training images, one number per class, or none.
ClassWeights = Literal["balanced", "none"] | list[float] | None


def check_class_weights(class_weights: ClassWeights, num_classes: int) -> None:
    """Refuse weights that cannot be used.

    Raises:
        UserError: not one weight per class, or weights that are negative, infinite or all zero.
    """
    if class_weights is None or class_weights in ("balanced", "none"):
        return
    if isinstance(class_weights, str):
        raise UserError(f"class_weights: balanced, none or one number per class, not {class_weights!r}")
    if len(class_weights) != num_classes:
        raise UserError(f"class_weights: {len(class_weights)} numbers for {num_classes} classes; give one per class")
    for number, weight in enumerate(class_weights):
        if not math.isfinite(weight) or weight < 0:
            raise UserError(f"class_weights: finite numbers from 0, but that of class {number} is {weight}")
    if not any(class_weights):
        raise UserError("class_weights: all are 0, so that nothing would be learnt")


def loss_weights(class_weights: ClassWeights, labels: Tensor | Sequence[int], num_classes: int) -> Tensor | None:
    """Return the weight of every class in the loss.

    Args:
        class_weights: "balanced" weighs a class by `N / (C · n_c)`, so that the mean weight of an image is 1 and all
            classes count the same; a list is used unchanged; "none" and None weigh nothing.
        labels: `(N,)`, of the training images.
        num_classes: C.

    Returns:
        float32 `(C,)`, or None.

    Source: King and Zeng 2001, the heuristic that scikit-learn calls "balanced".

    Example:
        >>> loss_weights("balanced", torch.tensor([0, 0, 0, 1]), 2)
        tensor([0.6667, 2.0000])
    """
    if class_weights is None or class_weights == "none":
        return None
    if class_weights != "balanced":
        return torch.tensor(class_weights, dtype=torch.float32)
    counts = torch.bincount(as_labels(labels, num_classes=num_classes), minlength=num_classes).double()
    # a class without images never meets its weight
    return (counts.sum() / (num_classes * counts.clamp(min=1))).float()
