"""What a classifier is given and what it returns, checked in one place."""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_labels
from handful.errors import UserError
from handful.features import FeatureBatch


def labelled(batch: Any, num_classes: int) -> tuple[Tensor, Tensor] | FeatureBatch:
    """Return a batch as images and class numbers; one of stored features is returned as one.

    Called while the batch still lies in the CPU's memory, where looking at its values costs nothing.

    Args:
        batch: `(images, labels)`: images floating point `(B, 3, H, W)`; labels as `handful.conversions.as_labels` takes
            them, `(B,)` or `(B, 1)`.
        num_classes: C; labels lie in 0…C − 1.

    Returns:
        Images as they are and labels int64 `(B,)`.

    Raises:
        UserError: the batch is something else.
    """
    if isinstance(batch, FeatureBatch):
        return batch._replace(labels=as_labels(batch.labels, len(batch.features), num_classes, "data: labels"))
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        kind = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
        raise UserError(f"data: a batch is a pair (images, labels), not {kind}")
    images = checked_images(batch[0])
    labels = as_labels(batch[1], len(images), num_classes, "data: labels")
    return images, labels


def checked_images(images: Any) -> Tensor:
    """Return images `(B, 3, H, W)`; refuse anything else.

    Raises:
        UserError: no tensor of that form.
    """
    if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point():
        found = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise UserError(f"data: images are floating point (B, 3, H, W), not {found}")
    return images


def checked_logits(logits: Any, count: int, num_classes: int) -> Tensor:
    """Return a network's output where it is logits `(count, num_classes)`.

    Raises:
        UserError: the network returns something else.
    """
    if not isinstance(logits, Tensor) or logits.shape != (count, num_classes) or not logits.is_floating_point():
        found = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"network: {count} images of {num_classes} classes need logits ({count}, {num_classes}); "
                        f"the network returns {found}")
    return logits


def class_probabilities(logits: Tensor) -> Tensor:
    """Return the softmax of logits `(B, C)`, float32.

    Raises:
        UserError: logits that are not numbers, which would be taken for the first class.
    """
    broken = int((~torch.isfinite(logits).all(dim=1)).sum())
    if broken:
        raise UserError(
            f"network: the logits of {broken} of {len(logits)} images are not finite numbers, so nothing can be "
            "predicted; take the weights of an earlier epoch"
        )
    return logits.float().softmax(dim=1)
