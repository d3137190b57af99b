"""Mean and deviation of the channels that images are normalised with."""

import math
from collections.abc import Mapping, Sequence

import torch

from datamodules.images import Split, batches
from handful.errors import UserError
from handful.images import centre_crop

Triple = tuple[float, float, float]

IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def channel_statistics(split: Split, size: int) -> tuple[Triple, Triple]:
    """Return mean and population standard deviation of the channels over the un-augmented images of a split.

    Counted exactly, by how often each of the 256 values occurs; worked out in float64, for pixel values in [0, 1].
    A channel that never changes gets the deviation 1, so that it can be divided by.
    """
    counts = torch.zeros(3, 256, dtype=torch.int64)
    for indices in batches(len(split)):
        pixels = torch.stack([centre_crop(split.pixels(index), size) for index in indices])
        for channel in range(3):
            counts[channel] += torch.bincount(pixels[:, channel].flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts.to(torch.float64) / counts.sum(dim=1, keepdim=True)
    mean = (share * values).sum(dim=1)
    std = (share * (values - mean[:, None]) ** 2).sum(dim=1).sqrt()
    std = torch.where(std > 0, std, torch.ones_like(std))
    return _triple(mean.tolist()), _triple(std.tolist())


def given_normalisation(normalisation: str | Mapping[str, Sequence[float]]) -> tuple[Triple, Triple] | None:
    """Mean and deviation where a value of `data.normalisation` says them itself; None where they follow from others.

    Raises:
        UserError: it is none of the words and no mean and std of three finite numbers each, the std above 0.
    """
    if isinstance(normalisation, str):
        if normalisation not in ("compute", "imagenet", "backbone"):
            raise UserError(
                f"data.normalisation must be compute, imagenet, backbone or a mean and std, not {normalisation!r}."
            )
        return IMAGENET if normalisation == "imagenet" else None
    if set(normalisation) != {"mean", "std"} or any(len(values) != 3 for values in normalisation.values()):
        raise UserError(f"data.normalisation needs three numbers each as mean and std, not {dict(normalisation)}.")
    if not all(math.isfinite(value) for values in normalisation.values() for value in values):
        raise UserError(f"data.normalisation needs finite numbers, not {dict(normalisation)}.")
    if min(normalisation["std"]) <= 0:
        raise UserError(f"data.normalisation needs a std above 0, not {list(normalisation['std'])}.")
    return _triple(normalisation["mean"]), _triple(normalisation["std"])


def is_normalisation(value: object) -> bool:
    """Whether plain values are a mean and a deviation, which a damaged cache need not hold."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(part, list) and len(part) == 3 for part in value)
        and all(isinstance(number, float) and math.isfinite(number) for part in value for number in part)
        and min(value[1]) > 0
    )


def _triple(values: Sequence[float]) -> Triple:
    red, green, blue = values
    return float(red), float(green), float(blue)
