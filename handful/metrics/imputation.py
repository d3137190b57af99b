"""Linear imputation: pixels that are taken away become what their neighbours suggest."""

import functools
import warnings

import numpy
import numpy.typing as npt
import torch
from scipy.linalg import get_lapack_funcs
from torch import Tensor
from torch.nn import functional

#: Half of a pixel's eight neighbours, (down, right), each with its weight; the other half are those that have it.
_NEIGHBOURS = ((0, 1, 1 / 6), (1, -1, 1 / 12), (1, 0, 1 / 6), (1, 1, 1 / 12))

#: Numbers of the bands that are in memory at a time.
_CELLS = 2**21

Array = npt.NDArray[numpy.floating]


def impute(images: Tensor, missing: Tensor) -> Tensor:
    """Return images whose missing pixels are the weighted mean of their neighbours, missing ones included.

    The weights are 1/6 beside and 1/12 at the corners. The linear system is symmetric and positive definite, and as
    its pixels come row by row, banded: on the CPU each image's is solved directly. On a GPU conjugate gradients solve
    those of all images and channels at once. An image that is missing whole becomes 0.

    Args:
        images: `(N, C, H, W)`; what the missing pixels hold is not looked at.
        missing: bool `(N, H, W)`.

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
    whole = missing.flatten(1).all(dim=1)[:, None, None]
    known = images.masked_fill(missing[:, None], 0)
    missing = missing & ~whole
    return (_solve_banded if images.device.type == "cpu" else solve_by_gradients)(known, missing)


def _solve_banded(known: Tensor, missing: Tensor) -> Tensor:
    kept = known if known.dtype in (torch.float32, torch.float64) else known.float()
    images, gone = kept.numpy(), missing.numpy()
    found = images.copy()
    counts = gone.sum(axis=(1, 2))
    ends = counts.cumsum()
    first, widest = 0, gone.shape[2] + 2
    while first < len(gone):  # as many images at a time as their bands leave room for
        last = first + max(1, int(numpy.searchsorted(ends[first:] - ends[first] + counts[first], _CELLS // widest)))
        found[first:last].transpose(0, 2, 3, 1)[gone[first:last]] = _banded(images[first:last], gone[first:last])
        first = last
    return torch.from_numpy(found).to(known.dtype)


def _banded(images: Array, missing: npt.NDArray[numpy.bool_]) -> Array:
    """The missing pixels `(P, C)` of images, each image's by a Cholesky decomposition of its band.

    Args:
        images: `(N, C, H, W)`, 0 where missing.
        missing: bool `(N, H, W)`, P of them.
    """
    right, diagonal = numpy.zeros_like(images), numpy.zeros(images.shape[2:], images.dtype)
    number = missing.cumsum().reshape(missing.shape) - 1  # through all images
    entries = []
    for one, other, weight in _pairs(*images.shape[2:]):
        for here, there in ((one, other), (other, one)):
            diagonal[here] += weight
            right[:, :, *here] += weight * images[:, :, *there]
        both = missing[:, *one] & missing[:, *other]
        before = number[:, *one][both]
        entries.append((before, number[:, *other][both] - before, weight))
    ends = missing.sum(axis=(1, 2)).cumsum()
    reach = max(int(down.max(initial=0)) for _, down, _ in entries)
    band = numpy.zeros((ends[-1], reach + 1), images.dtype)
    band[:, 0] = numpy.broadcast_to(diagonal, missing.shape)[missing]
    for before, down, weight in entries:
        band[before, down] = -weight
    solved = right.transpose(0, 2, 3, 1)[missing]
    (solve,) = get_lapack_funcs(("pbsv",), (band, solved))
    start = 0
    for end in ends:
        if end > start:
            own = band[start:end]
            used = int(numpy.flatnonzero(own.any(axis=0))[-1]) + 1
            _, solved[start:end], info = solve(own[:, :used].T, solved[start:end], lower=True, overwrite_ab=True)
            if info:
                raise numpy.linalg.LinAlgError(f"the system of the missing pixels is singular at {info}")
        start = end
    return solved


@functools.cache
def _pairs(height: int, width: int) -> list[tuple[tuple[slice, slice], tuple[slice, slice], float]]:
    """Where two neighbours lie, the one before the other in reading order, and the weight."""
    return [
        (
            (slice(0, height - down), slice(max(0, -across), width - max(0, across))),
            (slice(down, height), slice(max(0, across), width + min(0, across))),
            weight,
        )
        for down, across, weight in _NEIGHBOURS
    ]


def solve_by_gradients(known: Tensor, missing: Tensor, tolerance: float = 1e-6, steps: int = 1000) -> Tensor:
    """Impute by conjugate gradients, each step one 3×3 convolution of all images and channels.

    Args:
        known: `(N, C, H, W)`, 0 where missing.
        missing: bool `(N, H, W)`, no image whole.
        tolerance: relative residual that ends the steps.
        steps: at most so many.
    """
    gone = missing[:, None].to(known.dtype)
    kernel = known.new_zeros(1, 1, 3, 3)
    for down, across, weight in _NEIGHBOURS:
        kernel[0, 0, 1 + down, 1 + across] = kernel[0, 0, 1 - down, 1 - across] = weight

    def neighbours(values: Tensor) -> Tensor:
        return functional.conv2d(values.flatten(0, 1)[:, None], kernel, padding=1).reshape(values.shape)

    weight_here = neighbours(torch.ones_like(gone[:1])).clamp_min(torch.finfo(known.dtype).tiny)  # less at the edges
    found = torch.zeros_like(known)
    residual = gone * neighbours(known)
    scaled = residual / weight_here  # the diagonal preconditions
    direction = scaled
    power = _dot(residual, scaled)
    enough = tolerance**2 * power
    for _ in range(steps):
        if not bool((power > enough).any()):
            break
        applied = gone * (weight_here * direction - neighbours(direction))
        length = _share(power, _dot(direction, applied))
        found = found + length * direction
        residual = residual - length * applied
        scaled = residual / weight_here
        before, power = power, _dot(residual, scaled)
        direction = scaled + _share(power, before) * direction
    else:
        if bool((power > enough).any()):
            warnings.warn(f"imputation: not converged after {steps} steps; its pixels are approximate", stacklevel=2)
    return known + found


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(dim=(2, 3), keepdim=True)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), 0)
