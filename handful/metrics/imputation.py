"""Noisy linear imputation: pixels that are taken away become what their neighbours suggest."""

import torch
from torch import Tensor
from torch.nn import functional

#: Weight of each of the eight neighbours: 1/6 beside, 1/12 at the corners.
_WEIGHTS = ((1 / 12, 1 / 6, 1 / 12), (1 / 6, 0.0, 1 / 6), (1 / 12, 1 / 6, 1 / 12))


def impute(images: Tensor, missing: Tensor, tolerance: float = 1e-6, steps: int = 500) -> Tensor:
    """Return images whose missing pixels are the weighted mean of their neighbours, missing ones included.

    The linear system is symmetric and positive definite; conjugate gradients solve it for all images and channels at
    once, each step one 3×3 convolution, without a matrix. An image that is missing whole becomes 0.

    Args:
        images: `(N, C, H, W)`; what the missing pixels hold is not looked at.
        missing: bool `(N, H, W)`.
        tolerance: relative residual that ends the steps.
        steps: at most so many.

    Returns:
        `(N, C, H, W)`.

    Source: Rong et al. 2022, ROAD (arXiv 2202.00449), section 4.3, without the noise.

    Example:
        >>> image = torch.arange(9.0).reshape(1, 1, 3, 3)
        >>> missing = torch.zeros(1, 3, 3, dtype=torch.bool)
        >>> missing[0, 1, 1] = True
        >>> impute(image, missing)[0, 0, 1, 1].round(decimals=4)
        tensor(4.)
    """
    missing = missing & ~missing.flatten(1).all(dim=1)[:, None, None]
    gone = missing[:, None].to(images.dtype)
    kernel = images.new_tensor(_WEIGHTS)[None, None]

    def neighbours(values: Tensor) -> Tensor:
        return functional.conv2d(values.flatten(0, 1)[:, None], kernel, padding=1).reshape(values.shape)

    weight = neighbours(torch.ones_like(gone[:1])).clamp_min(torch.finfo(images.dtype).tiny)  # fewer at the edges
    known = torch.where(missing[:, None], 0, images)
    right = gone * neighbours(known)

    def apply(values: Tensor) -> Tensor:
        return gone * (weight * values - neighbours(values))

    found = torch.zeros_like(images)
    residual = right
    scaled = residual / weight  # the diagonal as the preconditioner
    direction = scaled
    power = _dot(residual, scaled)
    enough = tolerance**2 * power
    for _ in range(steps):
        if not bool((power > enough).any()):
            break
        applied = apply(direction)
        length = _share(power, _dot(direction, applied))
        found = found + length * direction
        residual = residual - length * applied
        scaled = residual / weight
        before, power = power, _dot(residual, scaled)
        direction = scaled + _share(power, before) * direction
    return known + found


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(dim=(2, 3), keepdim=True)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), 0)
