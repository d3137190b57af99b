"""Meaningful perturbation: the smallest blurred region that takes the class away."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from handful.attribution.context import AttributionContext, gradient
from handful.attribution.registry import register
from handful.blur import gaussian_blur
from handful.errors import UserError

OBJECTIVES = ("lower", "switch")

#: Blur of the mask, as a share of the image's side: 5 px at 224 (the authors' code).
_MASK_SIGMA = 5 / 224

#: Cells along a side of the authors' masks.
_PAPER_CELLS = 28


@register("meaningful_perturbation", title="meaningful perturbation")
def meaningful_perturbation(
    context: AttributionContext,
    objective: str = "lower",
    iterations: int = 300,
    rate: float = 0.1,
    area_weight: float = 0.08,
    smooth_weight: float = 0.01,
    smooth_power: float = 3.0,
    jitter: int = 2,
    margin: float = 0.5,
    grid: int | None = None,
) -> Tensor:
    """1 − m, the part that was removed, in [0, 1]: `(N, T, g, g)`; all images and targets are optimised side by side.

    Minimises over masks m (1 keeps, 0 removes) the sum over images of
    `area_weight · mean(1 − m) + smooth_weight · Σ |∇m|^smooth_power + E[goal(m·x + (1 − m)·blur(x))]`
    with m upsampled and blurred, and the image shifted at random. Starts from m = 0, everything removed: at m = 1 the
    probability of a certain class has no slope, and the mask would stay there. `notes["before"]` and
    `notes["after"] (N, T)` are the target's probability on the whole and on the perturbed image.

    Args:
        context: the images and targets; what is removed is replaced by a blur unless a baseline is asked for.
        objective: `"lower"`: the goal is p_c, the target's probability (the paper's). `"switch"`: the goal is
            max(0, s_c − max of the others + margin), in logits, which rests as soon as another class wins.
        iterations: steps of Adam; 100 give a rough map.
        rate: Adam's learning rate.
        area_weight: on the mean of 1 − m, so that it does not depend on the grid (the paper's 1e-4 on the sum of
            28 × 28 cells).
        smooth_weight: on the sum over cells, times g / 28, which makes it cost a slope the same on any grid.
        smooth_power: β.
        jitter: largest shift in pixels, each way.
        margin: for `"switch"`, in logits.
        grid: cells along a side; None takes an eighth of the image's side, at least 7.

    Source: Fong & Vedaldi 2017 (arXiv 1704.03296), equation 6.
    """
    if objective not in OBJECTIVES:
        raise UserError(f'objective "{objective}" is unknown: give {" or ".join(OBJECTIVES)}')
    if iterations < 1 or jitter < 0 or (grid is not None and grid < 2):
        raise UserError("meaningful_perturbation needs iterations ≥ 1, jitter ≥ 0 and a grid of at least 2 cells")
    removed = context.baseline("blur")
    context.clean_logits()
    count = context.targets.count
    size = context.images.shape[2:]
    cells = grid or max(7, math.ceil(min(size) / 8))
    before, after = context.empty(), context.empty()
    raw = context.empty(cells, cells)
    sigma = _MASK_SIGMA * min(size)
    smooth_weight = smooth_weight * cells / _PAPER_CELLS

    def blend(masks: Tensor, images: Tensor, blanks: Tensor) -> Tensor:
        wide = functional.interpolate(masks, size=size, mode="bilinear", align_corners=False)
        wide = gaussian_blur(wide, sigma)
        return wide * images + (1 - wide) * blanks

    def work(rows: Tensor, which: Tensor) -> None:
        images = context.images[rows]
        blanks = removed.expand(len(rows), -1, -1, -1) if len(removed) == 1 else removed[rows]
        classes = context.targets.of(rows, images.device).gather(1, which.to(images.device)[:, None])
        masks = torch.zeros(len(rows), 1, cells, cells, dtype=raw.dtype, device=images.device, requires_grad=True)
        adam = torch.optim.Adam([masks], lr=rate)
        shifts = _shifts(context, rows, which, iterations, jitter)
        for step in range(iterations):
            seen = _roll(blend(masks, images, blanks), shifts[step])
            goal = _goal(context.logits(seen.to(images.dtype)), classes, objective, margin).sum()
            if step == 0:
                gradient(goal, masks, keep_graph=True)  # refuses a score that the masks could not learn from
            loss = goal + area_weight * (1 - masks).mean(dim=(1, 2, 3)).sum()
            loss = loss + smooth_weight * total_variation(masks, smooth_power).sum()
            masks.grad = gradient(loss, masks)
            adam.step()
            with torch.no_grad():
                masks.clamp_(0, 1)
        with torch.no_grad():
            last = context.logits(blend(masks, images, blanks).to(images.dtype)).softmax(dim=1).gather(1, classes)
            first = context.clean_logits()[rows].softmax(dim=1).gather(1, classes)
            raw[rows, which] = 1 - masks[:, 0]
            before[rows, which], after[rows, which] = first[:, 0], last[:, 0]

    context.over_copies(count, work)
    single = context.targets.single
    context.notes.update(
        objective=objective, before=before[:, 0] if single else before, after=after[:, 0] if single else after
    )
    return raw


def _goal(logits: Tensor, classes: Tensor, objective: str, margin: float) -> Tensor:
    """What is to become small, `(B,)`, of logits `(B, C)` for classes `(B, 1)`."""
    if objective == "lower":
        return logits.softmax(dim=1).gather(1, classes)[:, 0]
    others = logits.scatter(1, classes, -torch.inf).amax(dim=1)
    return (logits.gather(1, classes)[:, 0] - others + margin).relu()


def total_variation(masks: Tensor, power: float) -> Tensor:
    """Σ (√(∂x² + ∂y²))^power of masks `(B, 1, g, g)` with one-sided differences, `(B,)`."""
    down = functional.pad(masks.diff(dim=2), (0, 0, 0, 1))
    right = functional.pad(masks.diff(dim=3), (0, 1, 0, 0))
    squared = down**2 + right**2
    flat = squared == 0  # the root has no slope at 0
    length = torch.where(flat, torch.ones_like(squared), squared).sqrt()
    return torch.where(flat, torch.zeros_like(squared), length**power).sum(dim=(1, 2, 3))


def _shifts(context: AttributionContext, rows: Tensor, which: Tensor, iterations: int, jitter: int) -> Tensor:
    """Random shifts `(iterations, B, 2)` in −jitter … jitter, by image and target."""
    each = []
    for row, target in zip(rows.tolist(), which.tolist(), strict=True):
        generator = torch.Generator().manual_seed(context.generator(row, target).initial_seed())
        each.append(torch.randint(-jitter, jitter + 1, (iterations, 2), generator=generator))
    return torch.stack(each, dim=1)


def _roll(images: Tensor, shifts: Tensor) -> Tensor:
    """Each image `(B, C, H, W)` rolled by its own shift `(B, 2)`."""
    moved = [image.roll(shift, (1, 2)) for image, shift in zip(images, shifts.tolist(), strict=True)]
    return torch.stack(moved)
