"""Parameter randomisation: a map that stays when the network's weights are drawn again does not explain them."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from handful.attribution import attribute, unwrap
from handful.attribution.context import default_chunk
from handful.attribution.randomness import pixel_ids, seeded
from handful.attribution.registry import get
from handful.attribution.state import refuse_without_modules, undisturbed
from handful.attribution.targets import Target
from handful.errors import UserError
from handful.metrics.changed_images import changed_images
from handful.metrics.finite import as_finite, is_empty
from handful.metrics.plotted import PlottedMetric
from handful.metrics.similarity import is_constant, rank_correlation, structural_similarity
from handful.networks.head import Head

Order = Literal["cascading", "independent"]

#: Similarities of maps, of their magnitudes, and of their pictures.
SIMILARITIES = ("rank", "rank_of_magnitudes", "ssim")


def randomisable_layers(model: nn.Module, images: Tensor) -> list[str]:
    """Return the names of the modules that hold weights, from the one that runs last to the one that runs first.

    Args:
        model: images to logits.
        images: `(N, C, H, W)`, for one forward pass.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
        >>> randomisable_layers(model, torch.rand(1, 3, 4, 4))
        ['3', '0']
    """
    refuse_without_modules(model, "parameter randomisation")
    names = {module: name for name, module in model.named_modules() if _weights(module)}
    seen: dict[str, None] = {}
    handles = [module.register_forward_hook(lambda module, *_: seen.setdefault(names[module])) for module in names]
    try:
        with undisturbed(model), torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return list(seen)[::-1]


def randomise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw a module's own weights again.

    By its `reset_parameters` where it has one, as torch's layers do (running statistics too), on the CPU wherever the
    module is, so that every device gets the same weights. Else its weights change places at random, those of a head
    also where they are buffers: signs, zeros and scale stay theirs.

    Args:
        module: whose own weights, not those of modules inside it, are drawn.
        generator: on the CPU.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> before = layer.weight.detach().clone()
        >>> randomise(layer, torch.Generator().manual_seed(0))
        >>> torch.equal(layer.weight, before)
        False
    """
    if callable(getattr(module, "reset_parameters", None)):
        drawn: Any = copy.deepcopy(module).cpu()
        with torch.random.fork_rng([]), torch.no_grad():
            torch.default_generator.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            drawn.reset_parameters()
            for weight, new in zip(_tensors(module), _tensors(drawn), strict=True):
                weight.copy_(new)
        return
    with torch.no_grad():
        for weight in _weights(module):
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.copy_(weight.flatten()[order].reshape(weight.shape))


def _tensors(module: nn.Module) -> list[Tensor]:
    """A module's own parameters and buffers."""
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _weights(module: nn.Module) -> list[Tensor]:
    """A module's own weights; a head may keep them as buffers."""
    own: list[Tensor] = list(module.parameters(recurse=False))
    if isinstance(module, Head):
        own += [buffer for buffer in module.buffers(recurse=False) if buffer.is_floating_point()]
    return own


def randomised_maps(
    model: nn.Module,
    images: Tensor,
    method: str,
    classes: Target | None = None,
    order: Order = "cascading",
    layers: Sequence[str] | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Yield a method's maps `(N, H, W)` on the model as it is (named `""`), and after each layer is randomised.

    The class explained is that of the clean model throughout, and a method's random numbers are those of the image.
    The model itself is left as it was found: a copy is randomised.

    Args:
        model: images to logits.
        images: `(N, C, H, W)`, normalised.
        method: a registered attribution method.
        classes: one class per image; None takes the predicted ones.
        order: `"cascading"`: layer upon layer from the last to the first; `"independent"`: one at a time.
        layers: names from `named_modules()`, randomised with all inside them, from the last to the first; None takes
            every layer that holds weights.
        seed: of the new weights.
        options: of the method, by name.

    Raises:
        UserError: an unknown order, layer, method or option; images or classes that cannot be read.

    Source: Adebayo et al. 2018, "Sanity checks for saliency maps" (arXiv 1810.03292), section 3.
    """
    if order not in ("cascading", "independent"):
        raise UserError(f'order "{order}" is unknown: give cascading or independent')
    model = unwrap(model)
    with changed_images(model, images, classes) as watched:
        images, chosen = watched.images, watched.classes
    ids = pixel_ids(images)
    names = list(layers) if layers is not None else randomisable_layers(model, images[: default_chunk(images)])
    known = dict(model.named_modules())
    for name in names:
        if name not in known:
            raise UserError(f'the model has no layer "{name}" to randomise')

    def maps(of: nn.Module) -> Tensor:
        return attribute(of, images, chosen, method=method, image_ids=ids, **(options or {})).map().double()

    yield "", maps(model)
    changed = model
    for name in names:
        if order == "independent" or changed is model:
            changed = copy.deepcopy(model)
        generator = seeded(f"{seed}/parameter-randomisation/{name}", torch.device("cpu"))
        for module in changed.get_submodule(name).modules():
            randomise(module, generator)
        yield name, maps(changed)


def map_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return how alike maps `(N, H, W)` are: the `SIMILARITIES`, float64 `(N, 3)`, each at most 1.

    Spearman's correlation of the maps and of their magnitudes, and SSIM of their magnitudes stretched to [0, 1]. NaN
    where one of the two is constant but for rounding (of the last two, where its magnitudes are): it has no order that
    could stay or change, and so is neither like another map nor unlike it.

    Raises:
        UserError: maps that are not finite, or of different shapes.

    Example:
        >>> maps = torch.arange(64.0).reshape(1, 8, 8)
        >>> map_similarity(maps, maps).round(decimals=6)
        tensor([[1., 1., 1.]], dtype=torch.float64)
        >>> map_similarity(maps, torch.ones(1, 8, 8)).isnan().all()
        tensor(True)
    """
    first = as_finite(first, (None, None, None), "first")
    second = as_finite(second, tuple(first.shape), "second")
    flat, others = first.flatten(1), second.flatten(1)
    found = torch.stack([
        rank_correlation(others, flat), rank_correlation(others.abs(), flat.abs()),
        structural_similarity(first.abs(), second.abs()),
    ], dim=1)  # fmt: skip
    signed, magnitudes = (is_constant(f(flat)) | is_constant(f(others)) for f in (torch.clone, torch.abs))
    return found.masked_fill(torch.stack([signed, magnitudes, magnitudes], dim=1), torch.nan)


class ParameterRandomisation(PlottedMetric):
    """Average how alike a method's maps are before and after the network's weights are drawn again, layer by layer.

    For L layers `L + 1` attributions of each image, and one forward pass. Lower is better, above all after the last
    layer of a cascade, when nothing is left of what was learned: guided backprop is known to stay.

    Args:
        method: a registered attribution method.
        layers: names from `named_modules()`, from the last to the first: `randomisable_layers(model, images)`.
        order: `"cascading"` or `"independent"`.
        similarity: what `compute` returns: `"rank"`, `"rank_of_magnitudes"` or `"ssim"`; see `map_similarity`.
        seed: of the new weights.
        options: of the method, by name.

    Attributes:
        left_out: int64 `(L, 3)`, images per layer and similarity for which it is not defined.

    Example:
        >>> model, images = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), torch.rand(3, 3, 4, 4)
        >>> metric = ParameterRandomisation("gradient", randomisable_layers(model, images))
        >>> metric.update(model, images)
        >>> float(metric.compute()) < 0.9, metric.by_layer()["ssim"].shape
        (True, torch.Size([1]))
    """

    higher_is_better = False
    totals: Tensor
    counts: Tensor
    left_out: Tensor

    def __init__(
        self,
        method: str,
        layers: Sequence[str],
        order: Order = "cascading",
        similarity: str = "rank_of_magnitudes",
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if similarity not in SIMILARITIES:
            raise UserError(f'similarity "{similarity}" is unknown: give {", ".join(SIMILARITIES)}')
        if not layers:
            raise UserError("layers: there are none, and without weights nothing can be randomised")
        self.method, self.layers, self.order, self.similarity = get(method).name, list(layers), order, similarity
        self.seed, self.options = seed, options
        shape = (len(self.layers), len(SIMILARITIES))
        self.add_state("totals", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("counts", "left_out"):
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, model: nn.Module, images: Tensor, classes: Target | None = None) -> None:
        """Add images `(N, C, H, W)` and classes `(N,)`, the predicted ones when not given."""
        if is_empty(images):
            return
        maps = randomised_maps(model, images, self.method, classes, self.order, self.layers, self.seed, self.options)
        _, clean = next(maps)
        alike = torch.stack([map_similarity(clean, changed) for _, changed in maps], dim=1).to(self.totals.device)
        self.totals += alike.nansum(dim=0)
        self.counts += (~alike.isnan()).sum(dim=0)
        self.left_out += alike.isnan().sum(dim=0)

    def compute(self) -> Tensor:
        """Return the similarity after the last layer of a cascade, or its mean over independent layers, float64.

        NaN where it is defined for no image; of independent layers, the mean is over those where it is defined.
        """
        means = self._means()[:, SIMILARITIES.index(self.similarity)]
        return means[-1] if self.order == "cascading" else means.nanmean()

    def by_layer(self) -> dict[str, Tensor]:
        """Return each similarity, float64 `(L,)`, in the order of `layers`; NaN where it is defined for no image."""
        with self.sync_context():
            return dict(zip(SIMILARITIES, self._means().unbind(dim=1), strict=True))

    def _means(self) -> Tensor:
        return self.totals / self.counts
