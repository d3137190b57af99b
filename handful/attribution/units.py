"""From pixels to things a person can name: patches, superpixels, instances. Sums are preserved."""

import numpy
import torch
from torch import Tensor

from handful.errors import UserError


def grid(size: tuple[int, int], side: int) -> Tensor:
    """Square patches of `side` pixels, smaller at the far edges, numbered row by row: int64 `(H, W)` from 0."""
    if side < 1:
        raise UserError(f"a patch needs a side of at least 1 pixel, not {side}")
    rows, columns = (torch.arange(length) // side for length in size)
    return rows[:, None] * (int(columns[-1]) + 1) + columns


def superpixels(images: Tensor, n_segments: int = 50, compactness: float = 10.0) -> Tensor:
    """SLIC superpixels of images `(N, 3, H, W)`, normalised or not: int64 `(N, H, W)` from 0, without gaps.

    Args:
        images: each is stretched to [0, 1] by its own minimum and maximum first.
        n_segments: superpixels to aim at; the number found differs by image.
        compactness: weight of nearness in space against nearness in colour; raised tenfold for an image so noisy
            that fewer than half of the superpixels come out.

    Raises:
        UserError: scikit-image is not installed.

    Source: Achanta et al. 2012, "SLIC Superpixels Compared to State-of-the-art Superpixel Methods".
    """
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise UserError('superpixels need scikit-image: install it, or use segments="grid"') from error
    found = []
    for image in images.detach().float().cpu():
        low, high = image.amin(), image.amax()
        pixels = ((image - low) / (high - low).clamp(min=1e-8)).permute(1, 2, 0).double().numpy()
        for stiffer in (1, 10, 100, 1000):
            labels = slic(pixels, n_segments=n_segments, compactness=compactness * stiffer, start_label=0)
            _, gapless = numpy.unique(labels, return_inverse=True)
            if 2 * (int(gapless.max()) + 1) >= n_segments:
                break
        found.append(torch.from_numpy(gapless.reshape(labels.shape)).long())
    return torch.stack(found)


def shares(units: Tensor) -> Tensor:
    """How much of each pixel belongs to each unit, float32 `(N, U, H, W)`; the shares of a pixel add up to 1.

    Args:
        units: labels int64 `(N, H, W)` from 0; or masks bool `(N, M, H, W)` of instances, which may overlap: a
            pixel in several is split evenly, and unit M is what lies in none.
    """
    if units.ndim == 3:
        if units.is_floating_point() or units.dtype == torch.bool or bool((units < 0).any()):
            raise UserError(f"unit labels must be whole numbers from 0, not {units.dtype}")
        return torch.nn.functional.one_hot(units.long()).permute(0, 3, 1, 2).float()
    if units.ndim == 4:
        masks = units.bool().float()
        rest = (masks.sum(dim=1, keepdim=True) == 0).float()
        parts = torch.cat([masks, rest], dim=1)
        return parts / parts.sum(dim=1, keepdim=True)
    raise UserError(f"units must be labels (N, H, W) or masks (N, M, H, W), not {tuple(units.shape)}")


def aggregate(maps: Tensor, units: Tensor) -> Tensor:
    """Sum maps `(N, [T], H, W)` over units (see `shares`) → `(N, [T], U)`; the sum over units is the map's sum."""
    part = shares(units).to(maps)
    if maps.shape[0] != part.shape[0] or maps.shape[-2:] != part.shape[-2:]:
        raise UserError(f"units {tuple(units.shape)} do not fit maps {tuple(maps.shape)}")
    if maps.ndim == 3:
        return torch.einsum("nhw,nuhw->nu", maps, part)
    return torch.einsum("nthw,nuhw->ntu", maps, part)


def paint(values: Tensor, units: Tensor) -> Tensor:
    """Spread values `(N, [T], U)` evenly over their units → maps `(N, [T], H, W)` with the same sums."""
    part = shares(units).to(values)
    area = part.sum(dim=(2, 3))
    density = part / area.clamp(min=torch.finfo(part.dtype).eps)[:, :, None, None]
    if values.ndim == 2:
        return torch.einsum("nu,nuhw->nhw", values, density)
    return torch.einsum("ntu,nuhw->nthw", values, density)
