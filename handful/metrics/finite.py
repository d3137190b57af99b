"""Numbers that a measure can be taken of."""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_float, check_weighted
from handful.errors import UserError


def as_finite(values: Any, shape: tuple[int | None, ...], name: str) -> Tensor:
    """Floating-point numbers of the given shape, all of them finite; see `handful.conversions.as_float`.

    Raises:
        UserError: another type or shape; NaN or infinity, with the first row that has it.
    """
    found = as_float(values, shape, name)
    broken = ~torch.isfinite(found).flatten(1).all(dim=1) if found.numel() else torch.zeros(0, dtype=torch.bool)
    if bool(broken.any()):
        raise UserError(f"{name}: row {int(broken.nonzero()[0])} holds values that are not finite numbers")
    return found


def as_feature_maps(values: Any, count: int | None, channels: int | None, name: str = "maps") -> Tensor:
    """Finite feature maps `(B, F, h, w)` with a position at least.

    Args:
        values: to check.
        count: B, where it is known.
        channels: F, where it is known.
        name: what the sentence calls them.

    Raises:
        UserError: another type or shape; NaN or infinity; maps without a position.
    """
    maps = as_finite(values, (count, channels, None, None), name)
    refuse_without_positions(maps, name)
    return maps


def refuse_without_positions(maps: Tensor, name: str = "maps") -> None:
    """Refuse maps `(…, h, w)` whose height or width is 0.

    Raises:
        UserError: there is no position.
    """
    if 0 in maps.shape[-2:]:
        raise UserError(f"{name}: expected a position at least, got {tuple(maps.shape)}")


def is_empty(images: Any) -> bool:
    """Whether a batch `(0, C, H, W)` holds no image, as a rank's share may, or a selection."""
    return isinstance(images, Tensor) and images.ndim > 0 and not len(images)


def predicted_weights(values: Tensor, logits: Any, weight: Any, name: str) -> Tensor:
    """Return the weights `(B, S)` of each image's predicted class; NaN where a logit of the image is.

    Args:
        values: maps `(B, S, h, w)` or features `(B, S)`.
        logits: `(B, C)`.
        weight: `(C, S)`.
        name: of the values.

    Raises:
        UserError: shapes that do not fit one another.

    Example:
        >>> predicted_weights(torch.zeros(1, 2), torch.tensor([[0.0, 3.0]]), torch.eye(2), "features").tolist()
        [[0.0, 1.0]]
    """
    logits, weight = as_float(logits, (None, None), "logits"), as_float(weight, (None, None), "weight")
    check_weighted(values, logits, weight, name)
    return weight[logits.argmax(dim=1)].masked_fill(logits.isnan().any(dim=1, keepdim=True), torch.nan)
