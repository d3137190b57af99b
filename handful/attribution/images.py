"""Images and maps as they are handed in, made into tensors or refused in one sentence."""

import torch
from torch import Tensor

from handful.conversions import as_maps, as_tensor
from handful.errors import UserError

#: Channels an image may have when its layout has to be guessed.
_COLOURS = (1, 3, 4)


def as_images(images: object, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Images as a detached copy `(N, C, H, W)` of the model's dtype, on the model's device.

    Args:
        images: a tensor or array `(N, C, H, W)`, normalised, or a sequence of `(C, H, W)`.
        dtype: a floating-point dtype.
        device: where the model is.

    Raises:
        UserError: another shape, channels last, whole numbers, pixels that are not finite.

    Example:
        >>> import numpy, torch
        >>> as_images(numpy.zeros((2, 3, 8, 8)), torch.float32, torch.device("cpu")).dtype
        torch.float32
    """
    found = as_tensor(images, "images")
    shape = tuple(found.shape)
    if found.ndim == 3:
        raise UserError(f"images must be a non-empty batch (N, C, H, W), not {shape}: give one image as image[None]")
    if found.ndim != 4 or 0 in shape:
        raise UserError(f"images must be a non-empty batch (N, C, H, W), not {shape}")
    if shape[3] in _COLOURS and shape[1] not in _COLOURS:
        raise UserError(f"images {shape} have their channels last: give (N, C, H, W), images.permute(0, 3, 1, 2)")
    if not found.is_floating_point():
        raise UserError(
            f"images are {found.dtype}: give normalised floating-point images, (pixels / 255 − mean) / std per channel"
        )
    finite = found.isfinite().flatten(1).all(dim=1)
    if not bool(finite.all()):
        raise UserError(f"image {int((~finite).nonzero()[0])} of {shape[0]} holds NaN or infinite pixels")
    return found.detach().clone().to(device=device, dtype=dtype)


def maps_of(images: Tensor, maps: object) -> Tensor:
    """Maps `(N, H, W)` of images `(N, C, H, W)`, floating point, detached, on the images' device.

    Args:
        images: the images they belong to.
        maps: what `handful.conversions.as_maps` takes.

    Raises:
        UserError: another shape, or values that are not finite.
    """
    found = as_maps(maps).detach()
    expected = (len(images), *images.shape[2:])
    if found.shape != expected:
        raise UserError(f"maps must be (N, H, W) of the images, {expected}, not {tuple(found.shape)}")
    return found.clone().to(images.device)
