"""Occlusion: what the score loses when a window of the image is hidden."""

import torch
from torch import Tensor

from handful.attribution.context import AttributionContext
from handful.attribution.registry import register
from handful.errors import UserError


@register("occlusion", signed=True)
def occlusion(context: AttributionContext, window: int | None = None, stride: int | None = None) -> Tensor:
    """Mean of s(x) − s(x with the window hidden) over the windows that cover a pixel, `(N, T, H, W)`.

    Args:
        context: the images and targets; a window is filled with the mean colour unless asked otherwise.
        window: side in pixels; None takes a fourteenth of the image (16 at 224), at least 4.
        stride: pixels between windows; None takes half a window. A last window ends at the image's edge, so that
            every pixel is covered.

    Source: Zeiler & Fergus 2014 (arXiv 1311.2901), section 4.2.
    """
    height, width = context.images.shape[2:]
    side = min(height, width, max(4, round(min(height, width) / 14))) if window is None else window
    step = max(1, side // 2) if stride is None else stride
    if not 1 <= side <= min(height, width) or not 1 <= step <= side:
        raise UserError(
            f"occlusion needs a window of 1 to {min(height, width)} pixels and a stride of 1 to the window, "
            f"not {side} and {step}"
        )
    hidden = context.baseline("mean")
    context.notes.update(window=side, stride=step)
    scores = context.clean_scores()
    corners = torch.cartesian_prod(_corners(height, side, step), _corners(width, side, step))
    drops = context.empty(len(corners))

    @torch.no_grad()
    def work(rows: Tensor, windows: Tensor) -> None:
        inside = _windows(corners[windows], side, height, width).to(context.images.device)
        fill = hidden if len(hidden) == 1 else hidden[rows]
        copies = torch.where(inside[:, None], fill, context.images[rows])
        drops[rows, :, windows] = scores[rows] - context.scores(copies, rows)

    context.over_copies(len(corners), work)
    total, covered = context.empty(height, width), torch.zeros(height, width, device=context.images.device)
    for number, (top, left) in enumerate(corners.tolist()):
        area = (..., slice(top, top + side), slice(left, left + side))
        total[area] += drops[:, :, number, None, None]
        covered[area] += 1
    return total / covered


def _corners(length: int, side: int, step: int) -> Tensor:
    """First pixels of the windows along one axis; the last window ends at the edge."""
    starts = list(range(0, length - side + 1, step))
    if starts[-1] != length - side:
        starts.append(length - side)
    return torch.tensor(starts)


def _windows(corners: Tensor, side: int, height: int, width: int) -> Tensor:
    """Masks `(B, H, W)`, true inside the windows with these corners `(B, 2)`."""
    rows, columns = torch.arange(height), torch.arange(width)
    tall = (rows >= corners[:, :1]) & (rows < corners[:, :1] + side)
    wide = (columns >= corners[:, 1:]) & (columns < corners[:, 1:] + side)
    return tall[:, :, None] & wide[:, None, :]
