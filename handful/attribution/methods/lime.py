"""LIME: a linear model of the score in terms of which superpixels are kept."""

import torch
from torch import Tensor

from handful.attribution.context import AttributionContext
from handful.attribution.registry import register
from handful.attribution.units import grid, superpixels
from handful.errors import UserError

#: Width of the kernel that weighs a sample by its distance to the whole image (the reference implementation's).
KERNEL_WIDTH = 0.25


@register("lime", title="LIME", signed=True)
def lime(
    context: AttributionContext,
    samples: int = 1000,
    segments: str | Tensor = "slic",
    n_segments: int = 50,
    ridge: float = 1.0,
) -> Tensor:
    """Coefficients of a weighted ridge regression of the score on superpixels kept or hidden, `(N, T, H, W)`.

    A sample keeps each superpixel with probability ½ and paints the others in their mean colour (or the baseline,
    where one is given). It weighs √exp(−D²/0.25²) with D the cosine distance of its kept set to all of them. Each
    pixel gets its superpixel's coefficient; `notes["r2"] (N, T)` says how much of the score's weighted variance the
    linear model explains.

    Args:
        context: the images and targets.
        samples: forward passes per image; more than there are superpixels.
        segments: `"slic"`, `"grid"`, or labels `(N, H, W)` or `(H, W)`, int64 from 0.
        n_segments: superpixels to aim at.
        ridge: penalty on the squared coefficients, not on the intercept.

    Source: Ribeiro et al. 2016 (arXiv 1602.04938), equation 2, algorithm 1.
    """
    labels = _segments(context, segments, n_segments)
    counts = [int(one.max()) + 1 for one in labels]
    if samples <= max(counts):
        raise UserError(f"lime needs more samples ({samples}) than superpixels ({max(counts)})")
    kept = torch.ones(len(context), samples, max(counts), dtype=torch.bool)
    for row, count in enumerate(counts):  # each image draws for its own superpixels, whatever the others have
        kept[row, :, :count] = _masks(context, row, samples, count)
    device = context.images.device
    labels_on, kept_on = labels.to(device), kept.to(device)
    hidden = context.baseline("mean") if context.baseline_given else _mean_colours(context.images, labels_on)
    context.notes.setdefault("baseline", "superpixel mean")
    context.clean_logits()
    scores = context.empty(samples)

    @torch.no_grad()
    def work(rows: Tensor, steps: Tensor) -> None:
        kept = kept_on[rows, steps].gather(1, labels_on[rows].flatten(1)).reshape(-1, 1, *context.images.shape[2:])
        fill = hidden if len(hidden) == 1 else hidden[rows]
        found = context.scores(torch.where(kept, context.images[rows], fill), rows)
        scores[rows, :, steps] = found

    context.over_copies(samples, work)
    raw = context.empty(*context.images.shape[2:])
    r2 = torch.zeros(len(context), context.targets.count, dtype=torch.float64)
    for row, count in enumerate(counts):
        coefficients, r2[row] = _fit(kept[row, :, :count].double(), scores[row].cpu().double(), ridge)
        raw[row] = coefficients.to(raw)[:, labels_on[row]]
    context.notes["r2"] = r2[:, 0] if context.targets.single else r2
    return raw


def _segments(context: AttributionContext, segments: str | Tensor, n_segments: int) -> Tensor:
    size = (context.images.shape[2], context.images.shape[3])
    if n_segments < 1:
        raise UserError(f"n_segments must be at least 1, not {n_segments}")
    if isinstance(segments, Tensor):
        if segments.shape[-2:] != size or segments.is_floating_point() or int(segments.min()) < 0:
            raise UserError(
                f"segments must be int labels (N, H, W) from 0, not {tuple(segments.shape)} {segments.dtype} "
                f"from {segments.min().item()}"
            )
        return segments.cpu().long().expand(len(context), *size).clone()
    if segments == "slic":
        return superpixels(context.images, n_segments)
    if segments == "grid":
        side = max(1, round((size[0] * size[1] / n_segments) ** 0.5))
        return grid(size, side).expand(len(context), *size)
    raise UserError(f'segments "{segments}" is unknown: give slic, grid or a tensor of labels')


def _masks(context: AttributionContext, row: int, samples: int, count: int) -> Tensor:
    """Which superpixels each sample keeps, bool `(samples, count)`; the first keeps all."""
    generator = torch.Generator().manual_seed(context.generator(row).initial_seed())
    kept = torch.rand(samples, count, generator=generator) < 0.5
    kept[0] = True
    return kept


def _mean_colours(images: Tensor, labels: Tensor) -> Tensor:
    """Images `(N, C, H, W)` with every superpixel painted in its mean colour."""
    painted = torch.empty_like(images)
    for row, (image, label) in enumerate(zip(images.flatten(2), labels.flatten(1), strict=True)):
        total = image.new_zeros(len(image), int(label.max()) + 1).index_add_(1, label, image)
        painted[row] = (total / label.bincount(minlength=total.shape[1]).clamp(min=1))[:, label].reshape(
            painted[row].shape
        )
    return painted


def _fit(kept: Tensor, scores: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Weighted ridge of scores `(T, n)` on `kept (n, d)` → coefficients `(T, d)` and R² `(T,)`."""
    cosine = kept.mean(dim=1).sqrt()  # of the kept set with all superpixels
    weights = torch.exp(-((1 - cosine) ** 2) / KERNEL_WIDTH**2).sqrt()
    centre_z = (weights[:, None] * kept).sum(0) / weights.sum()
    centre_s = (weights * scores).sum(1, keepdim=True) / weights.sum()
    z, s = kept - centre_z, scores - centre_s
    gram = z.T @ (weights[:, None] * z) + ridge * torch.eye(kept.shape[1], dtype=kept.dtype)
    coefficients = torch.linalg.solve(gram, z.T @ (weights * s).T).T
    residual = (weights * (s - coefficients @ z.T) ** 2).sum(1)
    total = (weights * s**2).sum(1)
    return coefficients, 1 - residual / total.clamp(min=torch.finfo(total.dtype).tiny)
