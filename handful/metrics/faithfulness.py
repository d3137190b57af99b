"""Does the model use what a map marks? Pixels are taken away, or put back, in the map's order."""

from typing import Literal

import torch
from torch import Tensor, nn

from handful.attribution.images import as_images, maps_of
from handful.attribution.outputs import run_model, warn_of_probabilities
from handful.attribution.state import model_device, model_dtype, run_in_chunks, undisturbed, unwrap
from handful.attribution.targets import Target, Targets
from handful.blur import gaussian_blur
from handful.errors import UserError
from handful.metrics.means import Mean

Mode = Literal["insertion", "deletion"]

#: Blur of the image that insertion starts from: 5 px at 224.
_BLUR = 5 / 224


def perturbation_curve(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Target | None = None,
    mode: Mode = "deletion",
    steps: int = 28,
    chunk: int = 64,
) -> Tensor:
    """Follow the probability of a class as pixels go or come, highest of the map first, `(N, steps + 1)`.

    Deletion starts from the image and ends at the mean colour (0 after normalisation); insertion starts from a
    blurred image and ends at the image. Equal values go in reading order.

    Args:
        model: images to logits, or to one logit per image, whose classes have the probabilities `1 − sigmoid` and
            `sigmoid`; see `class_logits`. Left as it was found.
        images: `(N, C, H, W)`, normalised.
        maps: `(N, H, W)`.
        classes: one class per image, as `Targets` takes them; None takes the predicted ones.
        mode: `"insertion"` or `"deletion"`.
        steps: equal shares of the pixels that go or come one after another.
        chunk: images in a forward pass.

    Raises:
        UserError: an unknown mode; images, maps or classes that do not fit one another or are not finite; steps out of
            range; an output that cannot be read as logits.

    Source: RISE (Petsiuk et al. 2018, arXiv 1806.07421), section 4.3; one row of pixels per step there.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> perturbation_curve(model, torch.rand(3, 3, 2, 2), torch.rand(3, 2, 2), steps=4).shape
        torch.Size([3, 5])
    """
    if mode not in ("insertion", "deletion"):
        raise UserError(f'mode "{mode}" is unknown: give insertion or deletion')
    model = unwrap(model)
    with undisturbed(model), torch.no_grad():
        images = as_images(images, model_dtype(model), model_device(model))
        maps = maps_of(images, maps)
        if not 1 <= steps <= maps[0].numel():
            raise UserError(f"steps must lie in 1 … {maps[0].numel()}, the pixels of an image; got {steps}")
        chosen = _classes(model, images, "pred" if classes is None else classes, chunk)
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
        curve = torch.zeros(
            len(images) * (steps + 1), dtype=torch.promote_types(images.dtype, torch.float32), device=images.device
        )

        def work(start: int, stop: int) -> None:
            unit = torch.arange(start, stop, device=images.device)
            row, step = unit // (steps + 1), unit % (steps + 1)
            now = torch.where(rank[row] < changed[step].reshape(-1, 1, 1, 1), after[row], before[row])
            probabilities = run_model(model, now).values.softmax(dim=1)
            curve[start:stop] = probabilities.gather(1, chosen[row][:, None])[:, 0]

        run_in_chunks(len(curve), chunk, work)
    return curve.reshape(len(images), steps + 1)


def _classes(model: nn.Module, images: Tensor, target: Target, chunk: int) -> Tensor:
    """The class `(N,)` of each image, found or checked on the clean images."""
    targets = Targets(target, len(images))
    if targets.index is None or not targets.single:
        raise UserError("classes must be one class per image")
    for start in range(0, len(images), chunk):
        logits = run_model(model, images[start : start + chunk])
        if start == 0 and not logits.single:
            warn_of_probabilities(logits.values)
        targets.resolve(logits.values, start)
    return targets.index[:, 0].to(images.device)


def area_under(curve: Tensor) -> Tensor:
    """Return the trapezoid area under curves `(N, n)` over [0, 1], float64 `(N,)`.

    Example:
        >>> area_under(torch.tensor([[1.0, 0.5, 0.0]]))
        tensor([0.5000], dtype=torch.float64)
    """
    curve = curve.double()
    return (curve.sum(dim=1) - (curve[:, 0] + curve[:, -1]) / 2) / (curve.shape[1] - 1)


class InsertionAUC(Mean):
    """Average the area under the insertion curve; higher is better. See `perturbation_curve`.

    Args:
        steps: steps of the curve.

    Example:
        >>> metric = InsertionAUC(steps=4)
        >>> metric.update(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.rand(3, 3, 2, 2), torch.rand(3, 2, 2))
        >>> 0 <= float(metric.compute()) <= 1
        True
    """

    higher_is_better = True
    mode: Mode = "insertion"

    def __init__(self, steps: int = 28) -> None:
        super().__init__()
        self.steps = steps

    def update(  # type: ignore[override]
        self, model: nn.Module, images: Tensor, maps: Tensor, classes: Target | None = None
    ) -> None:
        """Add images `(N, C, H, W)`, their maps `(N, H, W)` and classes `(N,)`, the predicted ones when not given."""
        super().update(area_under(perturbation_curve(model, images, maps, classes, self.mode, self.steps)))


class DeletionAUC(InsertionAUC):
    """Average the area under the deletion curve; lower is better. See `InsertionAUC`.

    Example:
        >>> metric = DeletionAUC(steps=4)
        >>> metric.update(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.rand(3, 3, 2, 2), torch.rand(3, 2, 2))
        >>> 0 <= float(metric.compute()) <= 1
        True
    """

    higher_is_better = False
    mode: Mode = "deletion"
