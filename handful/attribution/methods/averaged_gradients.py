"""SmoothGrad and integrated gradients: means of gradients over many copies of an image."""

import numpy
import torch
from torch import Tensor

from handful.attribution.context import AttributionContext, gradients
from handful.attribution.registry import register
from handful.errors import UserError


@register("smoothgrad", title="SmoothGrad", reduction="max_abs")
def smoothgrad(context: AttributionContext, samples: int = 50, level: float = 0.15) -> Tensor:
    """Mean gradient over noisy copies (Smilkov et al. 2017, arXiv 1706.03825, section 3).

    Args:
        context: the images and targets.
        samples: n, noisy copies per image.
        level: σ of the noise as a share of each image's own range, max − min.
    """
    if samples < 1 or level < 0:
        raise UserError(f"smoothgrad needs samples ≥ 1 and level ≥ 0, not {samples} and {level}")
    context.clean_logits()
    images = context.images
    sigma = level * (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)))
    raw = context.empty(*images.shape[1:])

    def work(rows: Tensor, steps: Tensor) -> None:
        noise = torch.stack([_normal(context, int(row), int(step)) for row, step in zip(rows, steps, strict=True)])
        noisy = (images[rows] + sigma[rows].reshape(-1, 1, 1, 1) * noise).requires_grad_()
        found = gradients(context.scores(noisy, rows), noisy)
        add_by_image(raw, found, rows, 1 / samples)

    context.over_copies(samples, work)
    return raw


def _normal(context: AttributionContext, row: int, step: int) -> Tensor:
    image = context.images[row]
    return torch.randn(image.shape, generator=context.generator(row, step), device=image.device, dtype=image.dtype)


@register("integrated_gradients", title="integrated gradients", reduction="sum", signed=True)
def integrated_gradients(context: AttributionContext, steps: int = 32, rule: str = "gausslegendre") -> Tensor:
    """(x − b) ∫₀¹ ∂s(b + a (x − b)) da (Sundararajan et al. 2017, arXiv 1703.01365, equation 1).

    The sum over pixels and channels is s(x) − s(b); what the quadrature misses is the completeness error. A pixel
    equal to the baseline gets 0 whatever it does. Only rules whose weights sum to 1 are offered: the trapezoid rule
    of common libraries sums to 1 − 1/n, and rules that touch a = 0 lie on the kink of a network with biases.

    Args:
        context: the images and targets; the baseline is the mean colour unless asked otherwise.
        steps: n, gradients per image.
        rule: `"gausslegendre"` or `"midpoint"`.
    """
    alphas, weights = quadrature(steps, rule)
    baseline = context.baseline("mean")
    scores = context.clean_scores()
    shape = (-1, 1, 1, 1)
    raw = context.empty(*context.images.shape[1:])

    def work(rows: Tensor, step: Tensor) -> None:
        start = baseline if len(baseline) == 1 else baseline[rows]
        a = alphas[step].to(context.images).reshape(shape)
        between = (start + a * (context.images[rows] - start)).requires_grad_()
        found = gradients(context.scores(between, rows), between)
        add_by_image(raw, found * weights[step].to(found).reshape(-1, 1, 1, 1, 1), rows, 1.0)

    context.over_copies(steps, work)
    raw *= (context.images - baseline)[:, None]
    context.completeness = raw.flatten(2).sum(dim=2) - (scores - _baseline_scores(context, baseline))
    return raw


@torch.no_grad()
def _baseline_scores(context: AttributionContext, baseline: Tensor) -> Tensor:
    """Scores `(N, T)` of the baseline; one forward pass where all images share it."""
    logits: list[Tensor] = []
    for one in baseline.split(context.chunk):
        logits.append(context.logits(one))
    every = torch.cat(logits).expand(len(context), -1)
    return context.targets.score(every, torch.arange(len(context)))


def quadrature(steps: int, rule: str = "gausslegendre") -> tuple[Tensor, Tensor]:
    """Points and weights on [0, 1], float64 `(steps,)` each; the weights sum to 1.

    Raises:
        UserError: no steps, or an unknown rule.
    """
    if steps < 1:
        raise UserError(f"integrated gradients need at least 1 step, not {steps}")
    if rule == "gausslegendre":
        points, weights = numpy.polynomial.legendre.leggauss(steps)
        return torch.from_numpy((points + 1) / 2), torch.from_numpy(weights / 2)
    if rule == "midpoint":
        return (torch.arange(steps, dtype=torch.float64) + 0.5) / steps, torch.full(
            (steps,), 1 / steps, dtype=torch.float64
        )
    raise UserError(f'quadrature rule "{rule}" is unknown: give gausslegendre or midpoint')


def add_by_image(total: Tensor, found: Tensor, rows: Tensor, weight: float) -> None:
    """Add to `total (N, …)` the sum of those of `found (B, …)` that belong to each image; `rows (B,)` ascend.

    Adding slice by slice keeps the order fixed, which scattered additions on a GPU do not.
    """
    for row, count in zip(*(part.tolist() for part in rows.unique_consecutive(return_counts=True)), strict=True):
        first = int(torch.searchsorted(rows, row))
        total[row] += weight * found[first : first + count].to(total).sum(dim=0)
