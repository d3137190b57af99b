"""Scale maps for display; the numbers on record stay unnormalised."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from handful.attribution.registry import Reduction

Scaling = Literal["max", "minmax", "percentile", "symmetric"]

#: A map whose range is smaller than this is constant,
FLAT = 1e-8

#: and so is one whose range is a smaller share of its largest magnitude: resizing rounds.
ROUNDING = 1e-6


def is_constant(maps: Tensor) -> Tensor:
    """Whether each map `(…, H, W)` is constant but for rounding, bool `(…,)`."""
    flat = maps.flatten(-2)
    low, high = flat.amin(-1), flat.amax(-1)
    return high - low < (ROUNDING * torch.maximum(low.abs(), high.abs())).clamp(min=FLAT)


def reduce_channels(raw: Tensor, reduction: Reduction) -> Tensor:
    """`(…, C, H, W)` → `(…, H, W)`: the largest magnitude (Simonyan et al. 2014) or the signed sum of the channels."""
    if reduction == "max_abs":
        return raw.abs().amax(dim=-3)
    if reduction == "sum":
        return raw.sum(dim=-3)
    return raw


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners not aligned: `(…, h, w)` → `(…, H, W)`."""
    if maps.shape[-2:] == size:
        return maps
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    return functional.interpolate(flat, size=size, mode="bilinear", align_corners=False).reshape(
        *maps.shape[:-2], *size
    )


def normalise(maps: Tensor, scaling: Scaling = "max") -> Tensor:
    """Scale each map `(…, H, W)` on its own to [0, 1], or [−1, 1] for `"symmetric"`; constant maps become zeros.

    Args:
        maps: as `Attribution.map` gives them, already at their final size.
        scaling: `"max"`: negative values to 0, then by the maximum; `"minmax"`; `"percentile"`: as minmax between
            the 1st and the 99th percentile; `"symmetric"`: by the largest magnitude, sign kept.

    Example:
        >>> import torch
        >>> normalise(torch.tensor([[-1.0, 0.0], [2.0, 4.0]]))
        tensor([[0.0000, 0.0000],
                [0.5000, 1.0000]])
    """
    flat = maps.double().flatten(-2)
    flat = torch.nan_to_num(flat, nan=0.0, posinf=0.0, neginf=0.0)
    if scaling == "symmetric":
        low, high = torch.zeros_like(flat[..., :1]), flat.abs().amax(-1, keepdim=True)
    elif scaling == "max":
        low, high = torch.zeros_like(flat[..., :1]), flat.amax(-1, keepdim=True)
        flat = flat.clamp(min=0)
    elif scaling == "percentile":
        low = flat.quantile(0.01, dim=-1, keepdim=True)
        high = flat.quantile(0.99, dim=-1, keepdim=True)
        flat = flat.minimum(high).maximum(low)
    else:
        low, high = flat.amin(-1, keepdim=True), flat.amax(-1, keepdim=True)
    constant = is_constant(flat.reshape(maps.shape))[..., None] | (high - low < FLAT)
    scaled = (flat - low) / torch.where(constant, torch.ones_like(high), high - low)
    return torch.where(constant, torch.zeros_like(scaled), scaled).reshape(maps.shape).to(maps.dtype)
