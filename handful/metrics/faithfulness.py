"""Does the model use what a map marks? Pixels are taken away, or put back, in the map's order."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from handful.attribution.images import maps_of
from handful.attribution.targets import Target
from handful.blur import gaussian_blur
from handful.conversions import check_whole
from handful.errors import UserError
from handful.metrics.changed_images import Reading, changed_images, ranks, rows_of
from handful.metrics.finite import is_empty
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
    chunk: int | None = None,
    reading: Reading = "probability",
) -> Tensor:
    """Follow the probability of a class as pixels go or come, highest of the map first, `(N, steps + 1)`.

    `steps + 1` forward passes of each image: the clean one, which is an end of the curve, and the changed ones.

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
        chunk: images in a forward pass; None chooses by their size.
        reading: `"probability"`, or `"score"` for the logit, or `"decision"` for 1 while the class is predicted.

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
    with changed_images(model, images, classes, chunk) as watched:
        images = watched.images
        maps = maps_of(images, maps)
        pixels = maps[0].numel()
        check_whole("steps", steps, 1, pixels)
        removed = mode == "deletion"
        blurred = images if removed else gaussian_blur(images, _BLUR * min(images.shape[2:]))
        place = ranks(maps)[:, None].int()
        nothing = images.new_zeros(())
        changed = (torch.arange(steps + 1, device=images.device) * pixels / steps).round().int()

        def change(rows: Tensor, step: Tensor) -> Tensor:
            reached = rows_of(place, rows) < changed[step + removed].reshape(-1, 1, 1, 1)
            other = nothing if removed else rows_of(images, rows)
            return torch.where(reached, other, rows_of(blurred, rows))

        found = watched.answers(steps, change, reading)
        clean = watched.clean(reading)[:, None]
    return torch.cat([clean, found] if removed else [found, clean], dim=1)


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

    `steps + 1` forward passes of each image.

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

    def __init__(self, steps: int = 28, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = check_whole("steps", steps, 1)

    def update(  # type: ignore[override]
        self, model: nn.Module, images: Tensor, maps: Tensor, classes: Target | None = None
    ) -> None:
        """Add images `(N, C, H, W)`, their maps `(N, H, W)` and classes `(N,)`, the predicted ones when not given."""
        if is_empty(images):
            return
        super().update(area_under(perturbation_curve(model, images, maps, classes, self.mode, self.steps)))


class DeletionAUC(InsertionAUC):
    """Average the area under the deletion curve; lower is better. See `InsertionAUC`.

    `steps + 1` forward passes of each image.

    Example:
        >>> metric = DeletionAUC(steps=4)
        >>> metric.update(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.rand(3, 3, 2, 2), torch.rand(3, 2, 2))
        >>> 0 <= float(metric.compute()) <= 1
        True
    """

    higher_is_better = False
    mode: Mode = "deletion"
