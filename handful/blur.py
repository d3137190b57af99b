"""The Gaussian blur of images and maps."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def gaussian_blur(
    images: Tensor, sigma: float, radius: int | None = None, edges: Literal["reflect", "replicate"] = "reflect"
) -> Tensor:
    """Blur images or maps with a Gaussian; differentiable.

    Args:
        images: `(N, C, H, W)`.
        sigma: standard deviation in pixels; 0 leaves the images as they are.
        radius: pixels after which the Gaussian is cut off; 3σ, rounded up, if not given.
        edges: how the image is extended beyond its edges. Reflection reaches at most to the opposite edge.

    Returns:
        `(N, C, H, W)`.

    Example:
        >>> gaussian_blur(torch.ones(1, 1, 5, 5), sigma=1.0).shape
        torch.Size([1, 1, 5, 5])
    """
    if sigma <= 0:
        return images
    for dim in (2, 3):
        reach = math.ceil(3 * sigma) if radius is None else radius
        if edges == "reflect":
            reach = min(reach, images.shape[dim] - 1)
        offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        kernel = kernel / kernel.sum()
        pad = (0, 0, reach, reach) if dim == 2 else (reach, reach, 0, 0)
        shape = (1, 1, -1, 1) if dim == 2 else (1, 1, 1, -1)
        weight = kernel.reshape(shape).expand(images.shape[1], -1, -1, -1)
        images = functional.conv2d(_extended(images, dim, reach, pad, edges), weight, groups=images.shape[1])
    return images


def _extended(
    images: Tensor, dim: int, reach: int, pad: tuple[int, ...], edges: Literal["reflect", "replicate"]
) -> Tensor:
    """Images extended beyond their edges, along one dimension."""
    if edges == "replicate" or images.device.type == "cpu":
        return functional.pad(images, pad, mode=edges)
    # on a GPU, the gradient of reflection adds up in any order, and is refused where algorithms are to be determinate
    places = torch.arange(-reach, images.shape[dim] + reach, device=images.device).abs()
    last = images.shape[dim] - 1
    return images.index_select(dim, last - (last - places).abs())
