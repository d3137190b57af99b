"""Does the model use what a map marks? Pixels are taken away, or put back, in the map's order."""

from typing import Literal

import torch
from torch import Tensor, nn

from handful.attribution.baselines import gaussian_blur
from handful.attribution.state import model_dtype, run_in_chunks, undisturbed, unwrap
from handful.errors import UserError
from handful.metrics.means import Mean

Mode = Literal["insertion", "deletion"]

#: Blur of the image that insertion starts from: 5 px at 224.
_BLUR = 5 / 224


def perturbation_curve(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Tensor | None = None,
    mode: Mode = "deletion",
    steps: int = 28,
    chunk: int = 64,
) -> Tensor:
    """Probability of the class as pixels go or come, highest of the map first, `(N, steps + 1)`.

    Deletion starts from the image and ends at the mean colour (0 after normalisation); insertion starts from a
    blurred image and ends at the image. Equal values go in reading order.

    Args:
        model: images to logits; left as it was found.
        images: `(N, C, H, W)`, normalised.
        maps: `(N, H, W)`.
        classes: `(N,)`; None takes the predicted ones.
        mode: `"insertion"` or `"deletion"`.
        steps: equal shares of the pixels that go or come one after another.
        chunk: images in a forward pass.

    Source: RISE (Petsiuk et al. 2018, arXiv 1806.07421), section 4.3; one row of pixels a step there.
    """
    if mode not in ("insertion", "deletion"):
        raise UserError(f'mode "{mode}" is unknown: give insertion or deletion')
    if maps.shape != (len(images), *images.shape[2:]):
        raise UserError(f"maps must be (N, H, W) of the images, not {tuple(maps.shape)}")
    if not 1 <= steps <= maps[0].numel():
        raise UserError(f"steps must lie in 1 … {maps[0].numel()}, the pixels of an image; got {steps}")
    model = unwrap(model)
    with undisturbed(model), torch.no_grad():
        images = images.clone().to(model_dtype(model))
        if mode == "deletion":
            before, after = images, torch.zeros_like(images)
        else:
            before, after = gaussian_blur(images, _BLUR * min(images.shape[2:])), images
        order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
        pixels = order.shape[1]
        rank = torch.empty_like(order)
        rank.scatter_(1, order, torch.arange(pixels, device=order.device).expand_as(order).contiguous())
        rank = rank.reshape(len(images), 1, *images.shape[2:])
        changed = (torch.arange(steps + 1, device=images.device) * pixels / steps).round()
        chosen = torch.empty(0) if classes is None else classes.clone().to(images.device)
        if classes is None:
            chosen = torch.cat([model(part).argmax(dim=1) for part in images.split(chunk)])
        curve = images.new_zeros(len(images) * (steps + 1))

        def work(start: int, stop: int) -> None:
            unit = torch.arange(start, stop, device=images.device)
            row, step = unit // (steps + 1), unit % (steps + 1)
            now = torch.where(rank[row] < changed[step].reshape(-1, 1, 1, 1), after[row], before[row])
            curve[start:stop] = model(now).softmax(dim=1).gather(1, chosen[row][:, None])[:, 0]

        run_in_chunks(len(curve), chunk, work)
    return curve.reshape(len(images), steps + 1)


def area_under(curve: Tensor) -> Tensor:
    """Trapezoid area under curves `(N, n)` over [0, 1], `(N,)`."""
    curve = curve.double()
    return (curve.sum(dim=1) - (curve[:, 0] + curve[:, -1]) / 2) / (curve.shape[1] - 1)


class InsertionAUC(Mean):
    """Mean area under the insertion curve; higher is better. See `perturbation_curve`.

    Args:
        steps: steps of the curve.
    """

    higher_is_better = True
    mode: Mode = "insertion"

    def __init__(self, steps: int = 28) -> None:
        super().__init__()
        self.steps = steps

    def update(  # type: ignore[override]
        self, model: nn.Module, images: Tensor, maps: Tensor, classes: Tensor | None = None
    ) -> None:
        """Images `(N, C, H, W)`, their maps `(N, H, W)` and classes `(N,)`, the predicted ones when not given."""
        super().update(area_under(perturbation_curve(model, images, maps, classes, self.mode, self.steps)))


class DeletionAUC(InsertionAUC):
    """Mean area under the deletion curve; lower is better."""

    higher_is_better = False
    mode: Mode = "deletion"
