"""Find a layer by name and cut the graph at its output."""

import contextlib
import difflib
from collections.abc import Iterator

from torch import Tensor, nn

from handful.errors import UserError
from handful.networks.layouts import Layout

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
def cut_at(model: nn.Module, name: str, layout: Layout) -> Iterator[list[Tensor]]:
    """Within, a forward pass records its graph only from a layer's maps on; these maps are the list's one entry.

    The rest of the network receives a copy, so that an in-place layer after the cut does not overwrite the entry.

    Args:
        model: the model.
        name: of the layer, see `find_layer`.
        layout: how its output is read as maps `(B, F, h, w)`.

    Raises:
        UserError: there is no such layer, or it runs more than once in a pass.
    """
    outputs: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
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
