"""Feature maps of layers below the last one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from handful.attribution.state import undisturbed
from handful.errors import UserError
from handful.networks.classifier import Classifier


def stage_layers(model: Classifier, images: Tensor, count: int = 2) -> list[str]:
    """Return the names of the layers that end the stages below the top one, from the top down.

    A stage is what has maps of one size. Of the modules whose maps have that size and the image's proportions, the
    outermost count, and of these the one that runs last.

    Args:
        model: whose backbone is looked into.
        images: `(B, C, H, W)`, normalised, for one forward pass.
        count: at most.

    Example:
        >>> from handful.networks import build_classifier
        >>> model = build_classifier({"backbone": "cifar_resnet20", "options": {"width": 2}}, 2).eval()
        >>> stage_layers(model, torch.rand(1, 3, 32, 32))
        ['backbone.layer2', 'backbone.layer1']
    """
    seen: list[tuple[str, tuple[int, int]]] = []
    names = {module: name for name, module in model.named_modules() if name.startswith("backbone.")}

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            height, width = output.shape[2:]
            if height * images.shape[3] == width * images.shape[2]:
                seen.append((names[module], (height, width)))

    handles = [module.register_forward_hook(note) for module in names]
    try:
        with undisturbed(model), torch.no_grad():
            top = model.feature_maps(images).shape[2]
    finally:
        for handle in handles:
            handle.remove()
    chosen: dict[tuple[int, int], str] = {}
    for name, size in seen:
        if size[0] > top and (size not in chosen or name.count(".") <= chosen[size].count(".")):
            chosen[size] = name
    return [chosen[size] for size in sorted(chosen)][:count]


def layer_maps(model: Classifier, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Return the maps `(B, F, h, w)` that named layers give, by one forward pass without gradients.

    Args:
        model: whose layers they are.
        images: `(B, C, H, W)`, normalised.
        layers: names from `named_modules()`.

    Raises:
        UserError: no layer of that name, or one that gives no maps.

    Example:
        >>> from handful.networks import build_classifier
        >>> model = build_classifier({"backbone": "cifar_resnet20", "options": {"width": 2}}, 2).eval()
        >>> layer_maps(model, torch.rand(1, 3, 32, 32), ["backbone.layer2"])["backbone.layer2"].shape
        torch.Size([1, 4, 16, 16])
    """
    modules = dict(model.named_modules())
    found: dict[str, Tensor] = {}
    handles = []
    for name in layers:
        if name not in modules:
            raise UserError(f'the model has no layer "{name}"')
        handles.append(
            modules[name].register_forward_hook(lambda _, __, output, name=name: found.__setitem__(name, output))
        )
    try:
        with undisturbed(model), torch.no_grad():
            model.feature_maps(images)
    finally:
        for handle in handles:
            handle.remove()
    for name in layers:
        given = found.get(name)
        if not isinstance(given, Tensor) or given.ndim != 4:
            raise UserError(f'the layer "{name}" gives no maps (B, F, h, w)')
    return {name: found[name] for name in layers}
