"""Max-sensitivity: how far a map changes when the image hardly does."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from handful.attribution import attribute
from handful.attribution.randomness import pixel_ids
from handful.attribution.targets import Target
from handful.conversions import check_real, check_whole
from handful.metrics.changed_images import changed_images
from handful.metrics.finite import as_finite, is_empty
from handful.metrics.means import MeanWhereDefined

#: Makes maps `(N, …)` of images `(N, C, H, W)` for classes `(N,)`.
Explain = Callable[[nn.Module, Tensor, Tensor], Tensor]


def max_sensitivity(
    model: nn.Module,
    images: Tensor,
    explain: str | Explain,
    classes: Target | None = None,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Tensor:
    """Return `max_δ ‖R(x + δ) − R(x)‖ / ‖R(x)‖` over random δ, |δ| ≤ radius in every number, float64 `(N,)`.

    The class explained is that of the clean image throughout, and a method's random numbers are those of the clean
    image, so that nothing but the image changes. NaN for a map of zeros that changes; 0 for one that does not.

    `samples + 1` attributions of each image, and one forward pass.

    Args:
        model: images to logits.
        images: `(N, C, H, W)`, normalised.
        explain: the name of a method, or a function of model, images and classes `(N,)` that gives maps `(N, …)`.
        classes: one class per image; None takes the predicted ones.
        radius: of the changes, in units of the normalised image.
        samples: changes drawn for each image.
        seed: with the image's pixels, chooses the changes.
        options: of the method, by name.

    Raises:
        UserError: images or classes that cannot be read, an unknown method or option, a number out of range, maps that
            are not finite.

    Source: Yeh et al. 2019 (arXiv 1901.09392), definition 3.1; radius and samples as in Captum.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> max_sensitivity(model, torch.rand(3, 3, 2, 2), "gradient").tolist()  # the gradient of a linear model
        [0.0, 0.0, 0.0]
    """
    check_real("radius", radius, 0, open_below=True)
    check_whole("samples", samples, 1)
    with changed_images(model, images, classes) as watched:
        images, chosen = watched.images, watched.classes
        generators = [watched.generator(i, f"{seed}/max-sensitivity") for i in range(len(images))]
    ids = pixel_ids(images)

    def maps(given: Tensor) -> Tensor:
        if isinstance(explain, str):
            found = attribute(model, given, chosen, method=explain, image_ids=ids, **(options or {})).raw
        else:
            found = explain(model, given, chosen)
        return as_finite(found.detach().flatten(1).double(), (len(given), None), "maps")

    clean = maps(images)
    largest = clean.new_zeros(len(images))
    for _ in range(samples):
        drawn = torch.stack([2 * torch.rand(images.shape[1:], generator=g) - 1 for g in generators])
        largest = torch.maximum(largest, (maps(images + radius * drawn.to(images)) - clean).norm(dim=1))
    size = clean.norm(dim=1)
    found = largest / size.clamp_min(torch.finfo(size.dtype).tiny)
    return torch.where(size > 0, found, torch.where(largest > 0, torch.nan, 0.0))


class MaxSensitivity(MeanWhereDefined):
    """Average `max_sensitivity` over images: `samples + 1` attributions of each, and one forward pass.

    Args:
        explain: the name of a method, or a function of model, images and classes `(N,)` that gives maps `(N, …)`.
        radius: of the changes, in units of the normalised image.
        samples: changes drawn for each image.
        seed: with the image's pixels, chooses the changes.
        options: of the method, by name.

    Example:
        >>> metric = MaxSensitivity("gradient", samples=2)
        >>> metric.update(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.rand(3, 3, 2, 2))
        >>> float(metric.compute())
        0.0
    """

    higher_is_better = False

    def __init__(
        self,
        explain: str | Explain,
        radius: float = 0.02,
        samples: int = 10,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.explain, self.radius, self.samples, self.seed, self.options = explain, radius, samples, seed, options

    def update(  # type: ignore[override]
        self, model: nn.Module, images: Tensor, classes: Target | None = None
    ) -> None:
        """Add images `(N, C, H, W)` and classes `(N,)`, the predicted ones when not given."""
        if is_empty(images):
            return
        found = max_sensitivity(
            model, images, self.explain, classes, self.radius, self.samples, self.seed, self.options
        )
        super().update(found)
