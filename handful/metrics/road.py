"""ROAD, remove and debias: pixels go without leaving a shape that the model could read."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from handful.attribution.images import maps_of
from handful.attribution.targets import Target
from handful.conversions import check_real
from handful.errors import UserError
from handful.metrics.changed_images import Reading, changed_images, check_reading, ranks
from handful.metrics.finite import is_empty
from handful.metrics.imputation import impute
from handful.metrics.means import Mean

Order = Literal["most", "least"]

PERCENTAGES = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)


def road_curve(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Target | None = None,
    order: Order = "most",
    percentages: Sequence[float] = PERCENTAGES,
    reading: Reading = "probability",
    noise: float = 0.01,
    seed: int = 0,
    chunk: int | None = None,
) -> Tensor:
    """Follow a class as shares of the pixels are imputed from their neighbours, `(N, percentages)`.

    Equal values of the map go in reading order. `len(percentages) + 1` forward passes of each image.

    Args:
        model: images to logits.
        images: `(N, C, H, W)`, normalised.
        maps: `(N, H, W)`.
        classes: one class per image; None takes the predicted ones.
        order: pixels of the highest values go first (`"most"`) or those of the lowest (`"least"`).
        percentages: of the pixels that go, in (0, 100); the number of pixels is rounded down.
        reading: `"probability"` of the class, its `"score"`, or `"decision"`: 1 while it is predicted (the published).
        noise: standard deviation of the noise on imputed pixels, in units of the normalised image.
        seed: with the image's pixels, chooses the noise.
        chunk: images in a forward pass; None chooses by their size.

    Raises:
        UserError: images, maps or classes that do not fit one another or are not finite; a number out of range.

    Source: Rong et al. 2022, "A consistent and efficient evaluation strategy for attribution methods"
        (arXiv 2202.00449); see `impute`. Blurred maps fare well in it (arXiv 2304.13836).

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
        >>> road_curve(model, torch.rand(3, 3, 4, 4), torch.rand(3, 4, 4)).shape
        torch.Size([3, 9])
    """
    if order not in ("most", "least"):
        raise UserError(f'order "{order}" is unknown: give most or least')
    given = _checked(percentages)
    check_real("noise", noise, 0)
    with changed_images(model, images, classes, chunk) as watched:
        images = watched.images
        maps = maps_of(images, maps)
        place = ranks(maps, descending=order == "most")
        pixels = maps[0].numel()
        gone = torch.tensor([int(pixels * p / 100) for p in given], device=images.device)

        def change(rows: Tensor, copy: Tensor) -> Tensor:
            missing = place[rows] < gone[copy][:, None, None]
            imputed = impute(images[rows], missing)
            if not noise:
                return imputed
            drawn = torch.stack([
                torch.randn(images.shape[1:], generator=watched.generator(row, f"{seed}/road/{order}/{step}"))
                for row, step in zip(rows.tolist(), copy.tolist(), strict=True)
            ]).to(images)  # fmt: skip
            return imputed + noise * drawn * missing[:, None]

        return watched.answers(len(given), change, reading)


def _checked(percentages: Iterable[float]) -> tuple[float, ...]:
    flat = isinstance(percentages, Iterable) and getattr(percentages, "ndim", 1) == 1
    given = [p.item() if hasattr(p, "item") else p for p in percentages] if flat else []
    if not given:
        raise UserError(f"percentages: expected one at least, in a sequence, got {percentages!r}")
    return tuple(check_real("percentages", p, 0, 100, open_below=True, open_above=True) for p in given)


class ROAD(Mean):
    """Average how much more of a class is left when the worst pixels go than when the best do.

    `(LeRF − MoRF) / 2`, averaged over the percentages; in [−1/2, 1/2], 0 for a map that says nothing.
    `2 · (len(percentages) + 1)` forward passes of each image; see `road_curve`.

    Args:
        percentages: of the pixels that go.
        reading: `"probability"` or `"decision"`.
        noise: standard deviation of the noise on imputed pixels.
        seed: with the image's pixels, chooses the noise.

    Example:
        >>> metric = ROAD()
        >>> metric.update(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), torch.rand(3, 3, 4, 4), torch.rand(3, 4, 4))
        >>> -0.5 <= float(metric.compute()) <= 0.5
        True
    """

    higher_is_better = True

    def __init__(
        self,
        percentages: Sequence[float] = PERCENTAGES,
        reading: Reading = "probability",
        noise: float = 0.01,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_reading(reading)
        self.percentages, self.reading, self.seed = _checked(percentages), reading, seed
        self.noise = check_real("noise", noise, 0)

    def update(  # type: ignore[override]
        self, model: nn.Module, images: Tensor, maps: Tensor, classes: Target | None = None
    ) -> None:
        """Add images `(N, C, H, W)`, their maps `(N, H, W)` and classes `(N,)`, the predicted ones when not given."""
        if is_empty(images):
            return
        orders: tuple[Order, Order] = ("least", "most")
        least, most = (
            road_curve(model, images, maps, classes, order, self.percentages, self.reading, self.noise, self.seed)
            for order in orders
        )
        super().update((least.double() - most.double()).mean(dim=1) / 2)
