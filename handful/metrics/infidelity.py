"""Infidelity: how far what a map says of a change is from what the change does to the score."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from handful.attribution.images import maps_of
from handful.attribution.targets import Target
from handful.conversions import as_float, as_tensor, check_real, check_whole
from handful.errors import UserError
from handful.metrics.changed_images import ChangedImages, changed_images, rows_of
from handful.metrics.finite import is_empty
from handful.metrics.means import MeanWhereDefined

Change = Literal["squares", "noise"]

#: What a map says of each change `(N, samples)`, and the changed copies.
Changes = tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]


def infidelity(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Target | None = None,
    change: Change = "squares",
    samples: int = 20,
    normalise: bool = False,
    side: float = 0.25,
    noise: float = 0.2,
    seed: int = 0,
    chunk: int | None = None,
) -> Tensor:
    """Return `E_I[(I · R − (score(x) − score(x − I)))²]` of each image, float64 `(N,)`, at least 0.

    Maps with channels `(N, C, H, W)` are gradients R, and `I · R` sums over all of them. Maps `(N, H, W)` are what
    pixels contribute, with the image in them (integrated gradients, CAM …): what they say of a change that sets pixels
    to 0 is their sum over these pixels. A linear model has infidelity 0 for its gradient and for its contributions.

    `samples + 1` forward passes of each image.

    Args:
        model: images to logits.
        images: `(N, C, H, W)`, normalised.
        maps: `(N, H, W)` or, of gradients, `(N, C, H, W)`.
        classes: one class per image; None takes the predicted ones.
        change: `"squares"`: a random square becomes 0, the mean colour. `"noise"`: Gaussian noise is taken away from
            every number; for gradients only.
        samples: changes drawn for each image.
        normalise: scale each map by the factor of at least 0 that makes its infidelity smallest, and divide by the
            infidelity of an empty map; then in [0, 1], and methods of different scales can be compared. A map that says
            the opposite is as bad as an empty one; with the factor of either sign of Yeh et al.'s code it would be as
            good as what it is the opposite of. NaN where no change did anything.
        side: of the squares, as a share of the image's shorter side.
        noise: standard deviation.
        seed: with the image's pixels, chooses the changes.
        chunk: images in a forward pass; None chooses by their size.

    Raises:
        UserError: images, maps or classes that do not fit one another or are not finite; a number out of range; noise
            with maps without channels.

    Source: Yeh et al. 2019 (arXiv 1901.09392), definition 2.1, squares as in its section 2.2.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).double()
        >>> images = torch.rand(3, 3, 4, 4).double()
        >>> gradient = model[1].weight[1].reshape(1, 3, 4, 4).expand(3, -1, -1, -1)
        >>> infidelity(model, images, gradient, 1).abs().max() < 1e-12
        tensor(True)
    """
    if change not in ("squares", "noise"):
        raise UserError(f'change "{change}" is unknown: give squares or noise')
    check_whole("samples", samples, 1)
    check_real("side", side, 0, 1, open_below=True)
    check_real("noise", noise, 0, open_below=True)
    with changed_images(model, images, classes, chunk) as watched:
        images = watched.images
        gradients, contributions = _read(images, maps)
        if change == "squares":
            said, changed = _squares(watched, contributions, samples, side, seed)
        elif gradients is not None:
            said, changed = _noise(watched, gradients, samples, noise, seed)
        else:
            raise UserError("change noise needs maps (N, C, H, W) of gradients: give change squares for (N, H, W)")
        after = watched.answers(samples, changed, "score").double()
        falls = watched.clean("score").double()[:, None] - after
    if not normalise:
        return (said - falls).square().mean(dim=1)
    power, empty = said.square().mean(dim=1), falls.square().mean(dim=1)
    factor = torch.where(power > 0, (said * falls).mean(dim=1) / power, 0.0).clamp(min=0)
    return (factor[:, None] * said - falls).square().mean(dim=1) / empty  # NaN where no change did anything


def _read(images: Tensor, maps: Tensor) -> tuple[Tensor | None, Tensor]:
    """The gradients, if they are, and what each pixel contributes, float64 `(N, H, W)`."""
    given = as_tensor(maps, "maps")
    if given.ndim == 4 and given.shape[1] == images.shape[1]:
        folded = maps_of(images.flatten(1, 2)[:, None], as_float(given, tuple(images.shape), "maps").flatten(1, 2))
        gradients = folded.reshape(images.shape).double()
        return gradients, (gradients * images).sum(dim=1)
    return None, maps_of(images, given).double()


def _squares(watched: ChangedImages, contributions: Tensor, samples: int, side: float, seed: int) -> Changes:
    """Random squares that become 0."""
    images = watched.images
    height, width = images.shape[2:]
    pixels = max(1, round(side * min(height, width)))
    corners = torch.stack([
        torch.rand(samples, 2, generator=watched.generator(i, f"{seed}/infidelity")) for i in range(len(images))
    ]).to(images.device)  # fmt: skip
    top = (corners[..., 0] * (height - pixels + 1)).long()
    left = (corners[..., 1] * (width - pixels + 1)).long()
    inside = [
        (at := torch.arange(length, device=images.device)).ge(start[..., None]) & at.lt(start[..., None] + pixels)
        for start, length in ((top, height), (left, width))
    ]
    said = torch.einsum("nkh,nhw,nkw->nk", inside[0].double(), contributions, inside[1].double())

    nothing = images.new_zeros(())

    def changed(rows: Tensor, copy: Tensor) -> Tensor:
        square = inside[0][rows, copy][:, None, :, None] & inside[1][rows, copy][:, None, None, :]
        return torch.where(square, nothing, rows_of(images, rows))

    return said, changed


def _noise(watched: ChangedImages, gradients: Tensor, samples: int, noise: float, seed: int) -> Changes:
    """Gaussian noise that is taken away."""
    images = watched.images
    said = images.new_zeros(len(images), samples, dtype=torch.float64)

    def changed(rows: Tensor, copy: Tensor) -> Tensor:
        drawn = []
        for row, sample in zip(rows.tolist(), copy.tolist(), strict=True):
            generator = watched.generator(row, f"{seed}/infidelity/{sample}")
            drawn.append(noise * torch.randn(images.shape[1:], generator=generator).to(images))
            said[row, sample] = (drawn[-1] * gradients[row]).sum()
        return images[rows] - torch.stack(drawn)

    return said, changed


class Infidelity(MeanWhereDefined):
    """Average `infidelity` over images, `samples + 1` forward passes of each.

    Args:
        change: `"squares"` or `"noise"`.
        samples: changes drawn for each image.
        normalise: make maps of different scales comparable.
        seed: with the image's pixels, chooses the changes.

    Example:
        >>> metric = Infidelity(normalise=True)
        >>> metric.update(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), torch.rand(3, 3, 4, 4), torch.zeros(3, 4, 4))
        >>> float(metric.compute())
        1.0
    """

    higher_is_better = False

    def __init__(
        self, change: Change = "squares", samples: int = 20, normalise: bool = False, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.change, self.samples = change, check_whole("samples", samples, 1)
        self.normalise, self.seed = normalise, seed

    def update(  # type: ignore[override]
        self, model: nn.Module, images: Tensor, maps: Tensor, classes: Target | None = None
    ) -> None:
        """Add images, their maps `(N, H, W)` or `(N, C, H, W)` and classes, the predicted ones when not given."""
        if is_empty(images):
            return
        found = infidelity(model, images, maps, classes, self.change, self.samples, self.normalise, seed=self.seed)
        super().update(found)
