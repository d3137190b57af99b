"""What stands for "nothing to see": the reference image of integrated gradients, occlusion and their kin."""

from collections.abc import Sequence

import torch
from torch import Tensor

from handful.blur import gaussian_blur
from handful.conversions import as_tensor
from handful.errors import UserError

#: Names a baseline may have; a tensor that broadcasts to the images may be given instead.
BASELINES = ("mean", "black", "blur")

#: Blur of a removed part, as a share of the image's side: 10 px at 224 (Fong & Vedaldi 2017, their code).
BLUR_SIGMA = 10 / 224


def make_baseline(
    images: Tensor, baseline: str | Tensor, normalisation: tuple[Sequence[float], Sequence[float]] | None
) -> tuple[Tensor, str]:
    """The baseline of images `(N, C, H, W)` and its name.

    Args:
        images: normalised.
        baseline: `"mean"`: the data set's mean colour, which is 0 after normalisation; `"black"`; `"blur"`; or a
            tensor that broadcasts to the images.
        normalisation: `(mean, std)` by channel, needed for `"black"`.

    Returns:
        A tensor `(1 or N, C, H, W)`, one image where all share it, and a name for the record.

    Raises:
        UserError: unknown name, a tensor of the wrong shape, black without the normalisation.
    """
    if not isinstance(baseline, str):
        given = as_tensor(baseline, "the baseline").detach().clone().to(images)
        if not bool(given.isfinite().all()):
            raise UserError("the baseline holds NaN or infinite values")
        try:
            shape = torch.broadcast_shapes(given.shape, images.shape)
        except RuntimeError:
            shape = torch.Size()
        if shape != images.shape:
            raise UserError(f"a baseline {tuple(given.shape)} does not fit images {tuple(images.shape)}")
        shared = given.ndim < 4 or given.shape[0] == 1
        return given.expand(1 if shared else len(images), *images.shape[1:]).clone(), "given"
    if baseline == "mean":
        return torch.zeros_like(images[:1]), baseline
    if baseline == "black":
        if normalisation is None:
            raise UserError('baseline "black" needs the normalisation (mean, std) of the images')
        mean, std = (torch.as_tensor(part, dtype=images.dtype, device=images.device) for part in normalisation)
        return (-mean / std).reshape(1, -1, 1, 1).expand_as(images[:1]).clone(), baseline
    if baseline == "blur":
        return gaussian_blur(images, BLUR_SIGMA * min(images.shape[2:])), baseline
    raise UserError(f'baseline "{baseline}" is unknown: give {", ".join(BASELINES)} or a tensor')
