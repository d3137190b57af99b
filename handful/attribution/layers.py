"""Find a layer by name and cut the graph at its output."""

import contextlib
import difflib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from handful.errors import UserError
from handful.networks.layouts import layout_of

_LISTED = 40


def clean_name(name: str) -> str:
    """A module's name without what wrappers put into it (`_orig_mod.`)."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The module called `name` (as in `named_modules()`).

    Raises:
        UserError: no such layer; the sentence says which there are.
    """
    layers = {clean_name(path): module for path, module in model.named_modules() if path}
    if name in layers:
        return layers[name]
    shown = [path for path in layers if path.count(".") <= 2][:_LISTED]
    near = difflib.get_close_matches(name, layers, n=3)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    more = ", …" if len(shown) < len(layers) else ""
    raise UserError(f'there is no layer "{name}": {hint}the model has {", ".join(shown)}{more}')


@contextlib.contextmanager
def cut_at(model: nn.Module, name: str, size: tuple[int, int]) -> Iterator[list[Tensor]]:
    """Within, a forward pass records its graph only from a layer's maps on; these maps are the list's one entry.

    Channels-last maps and tokens of transformers are read as `(B, F, h, w)`. The rest of the network receives a copy,
    so that an in-place layer after the cut does not overwrite the entry.

    Args:
        model: the model.
        name: of the layer, see `find_layer`.
        size: height and width of the images in pixels.

    Raises:
        UserError: there is no such layer, it does not give maps, or runs more than once in a pass.
    """
    outputs: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: object) -> Tensor:
        layout = layout_of(output, size, model)
        if layout is None or not isinstance(output, Tensor):
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise UserError(f'layer "{name}" gives {shape}, not maps (B, F, h, w): name a layer that does')
        if outputs:
            raise UserError(f'layer "{name}" runs more than once in a forward pass: name the block around it')
        cut = layout.maps(output.detach()).requires_grad_()
        outputs.append(cut)
        return layout.output(cut.clone(), output)

    handle = find_layer(model, name).register_forward_hook(hook)
    try:
        yield outputs
    finally:
        handle.remove()


@torch.no_grad()
def last_maps_layer(model: nn.Module, image: Tensor) -> str:
    """The name of the last module to give maps with more than one cell, found by one forward pass of `(1, 3, H, W)`.

    Tokens do not count: in a transformer that answers from its class token, the last ones decide nothing.

    Raises:
        UserError: the model has none.
    """
    seen: list[str] = []
    handles = []

    def watch(path: str, module: nn.Module) -> None:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                layout = layout_of(output, (image.shape[2], image.shape[3]), model)
                if layout is not None and layout.maps(output)[0, 0].numel() > 1:
                    seen.append(path)

        handles.append(module.register_forward_hook(hook))

    try:
        for path, module in model.named_modules():
            if path:
                watch(path, module)
        model(image)
    finally:
        for handle in handles:
            handle.remove()
    once = [path for path in seen if seen.count(path) == 1]
    if not once:
        raise UserError("no layer of this model gives maps (B, F, h, w): Grad-CAM has nothing to look at")
    return clean_name(once[-1])
