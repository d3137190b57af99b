"""Which layers give maps of the image, and how they are read: found out by running the network, not by shapes alone.

Any four-dimensional output looks like maps: attention matrices, position tables, heads of attention. A layer is taken
for one that gives maps only if its output changes with the image, carries a gradient of the score where it is to be
chosen, and each of its corners is influenced most by the same corner of the image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from handful.attribution.layers import clean_name, find_layer
from handful.attribution.outputs import run_model
from handful.errors import UserError
from handful.networks.layouts import Layout, layout_of, reduced_grids

#: Seed of the noise images that layers are tried on: the choice depends on the model and the image size alone.
_SEED = 20_260

#: Most tokens before the patches (class, distillation and register tokens).
_MOST_PREFIX = 8

#: Lead of the own corner in log influence that speaks for a grid nobody declares, and against one that is known.
_SHOWN, _CONTRADICTED = 0.1, -1.0

#: Share of a cell's influence that counts as none.
_FLOOR = 1e-6


@dataclass(frozen=True)
class MapLayer:
    """A layer that gives maps.

    Attributes:
        name: as in `named_modules()`.
        layout: how its output is read.
    """

    name: str
    layout: Layout


@dataclass(frozen=True)
class _Probe:
    """What layers gave for two noise images, within the graph from the images to the logits.

    Attributes:
        outputs: of every run of each layer, by name, in the order in which the layers finish.
        grids: rows and columns of what convolutions and pools gave.
    """

    model: nn.Module
    images: Tensor
    logits: Tensor
    outputs: dict[str, list[object]]
    grids: set[torch.Size]


def default_map_layer(model: nn.Module, images: Tensor) -> MapLayer:
    """The last layer whose maps the score depends on, found by one forward pass of noise the size of `images`.

    Layers as wide as the last maps of the network are preferred: in a transformer that answers from its class token,
    this is the norm before the last attention, not a part of that attention.

    Args:
        model: in evaluation mode, its parameters frozen.
        images: `(N, C, H, W)`; only their size, dtype and device count.

    Raises:
        UserError: no layer will do, or no score changes with the image.
    """
    probe = _run(model, images, [path for path, _ in model.named_modules() if path])
    once = {name: found[0] for name, found in probe.outputs.items() if len(found) == 1}
    outputs = {name: out for name, out in once.items() if isinstance(out, Tensor) and _could_be_maps(out)}
    gradients = dict(zip(outputs, _score_gradients(probe, list(outputs.values())), strict=True))

    def width(name: str, layout: Layout) -> int:
        return layout.maps(outputs[name]).shape[1]

    def carries(name: str, layout: Layout) -> bool:
        gradient = gradients[name]  # it may reach a class token alone
        return gradient is not None and bool((layout.maps(gradient) != 0).any())

    def find(wanted: Callable[[str, Layout], bool]) -> MapLayer | None:
        found = (_read(probe, name, outputs[name], partial(wanted, name)) for name in reversed(outputs))
        return next((layer for layer in found if layer is not None), None)

    last = find(lambda _name, _layout: True)
    if last is not None:
        of_last = width(last.name, last.layout)
        found = find(lambda name, layout: width(name, layout) == of_last and carries(name, layout)) or find(carries)
        if found is not None:
            return found
        if _is_constant(probe):
            reached = find(lambda name, layout: width(name, layout) == of_last and gradients[name] is not None) or last
            raise UserError(
                f'no score of this model changes with the image: everything after layer "{reached.name}" is zero. '
                "timm initialises the last layer of some networks with zeros; load weights or train the network, and "
                f'Grad-CAM will choose that layer, as with layer="{reached.name}"'
            )
    again = {name: found[0] for name, found in probe.outputs.items() if len(found) > 1}
    several = [f'"{name}"' for name, out in again.items() if isinstance(out, Tensor) and _could_be_maps(out)][::-1]
    left_out = f" ({several[0]} and others run" if len(several) > 1 else f" ({several[0]} runs" if several else ""
    left_out += " more than once)" if several else ""
    raise UserError(
        f"no layer of this model gives maps (B, F, h, w) of the image that its score depends on{left_out}: Grad-CAM "
        "has nothing to look at; name a layer, or use integrated_gradients or occlusion"
    )


def _read(probe: _Probe, name: str, output: Tensor, wanted: Callable[[Layout], bool]) -> MapLayer | None:
    """The layer if it gives maps of more than one cell that are `wanted`."""
    layouts = [layout for layout in _layouts(output, probe) if _cells(layout, output) > 1 and wanted(layout)]
    layout = _local_layout(probe, output, layouts)
    return None if layout is None else MapLayer(name, layout)


def named_map_layer(model: nn.Module, images: Tensor, name: str) -> MapLayer:
    """The layer called `name`, and how its output is read.

    Args:
        model: in evaluation mode, its parameters frozen.
        images: `(N, C, H, W)`; only their size, dtype and device count.
        name: from `named_modules()`.

    Raises:
        UserError: there is no such layer, it does not run or runs more than once, or it gives no maps of the image.
    """
    find_layer(model, name)
    probe = _run(model, images, [name])
    found = probe.outputs[name]
    if not found:
        raise UserError(f'layer "{name}" does not run in a forward pass: name one that does')
    if len(found) > 1:
        raise UserError(f'layer "{name}" runs more than once in a forward pass: name the block around it')
    output = found[0]
    if not isinstance(output, Tensor):
        raise UserError(f'layer "{name}" gives {type(output).__name__}, not maps (B, F, h, w): name a layer that does')
    if not output.is_floating_point():
        raise UserError(f'layer "{name}" gives {output.dtype} numbers, which carry no gradient: name another')
    shape = (len(images), *output.shape[1:])
    layouts = list(_layouts(output, probe)) if len(output) == len(probe.images) else []
    if not layouts:
        raise UserError(f'layer "{name}" gives {shape}, not maps (B, F, h, w): name a layer that does')
    if torch.equal(output[0], output[1]):
        raise UserError(f'layer "{name}" gives the same for every image: name a layer that depends on the image')
    chosen = _local_layout(probe, output, [layout for layout in layouts if _cells(layout, output) > 1])
    if chosen is None:  # a single cell has no position that could be wrong
        chosen = next((layout for layout in layouts if _cells(layout, output) == 1), None)
    if chosen is None:
        raise UserError(
            f'layer "{name}" gives {shape}, whose positions are not those of the image: name a layer that gives maps '
            "(B, F, h, w) or tokens"
        )
    return MapLayer(name, chosen)


def _run(model: nn.Module, images: Tensor, names: list[str]) -> _Probe:
    """Run two noise images and keep what the layers called `names` give, in the order in which they finish."""
    noise = torch.randn(2, *images.shape[1:], generator=torch.Generator().manual_seed(_SEED))
    noise = noise.to(images).requires_grad_()
    outputs: dict[str, list[object]] = {}
    grids: set[torch.Size] = set()
    handles = []

    def note_grid(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.ndim == 4:
            grids.add(output.shape[2:])

    def watch(name: str, module: nn.Module) -> None:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: object) -> object:
            outputs[name] = [*outputs.pop(name, []), output]
            return output.clone() if isinstance(output, Tensor) and output.requires_grad else None

        handles.append(module.register_forward_hook(hook))

    try:
        for name in names:
            watch(clean_name(name), find_layer(model, clean_name(name)))
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
                handles.append(module.register_forward_hook(note_grid))
        logits = run_model(model, noise).values
    finally:
        for handle in handles:
            handle.remove()
    for name in names:
        outputs.setdefault(clean_name(name), [])
    return _Probe(model, noise, logits, outputs, grids)


def _could_be_maps(output: Tensor) -> bool:
    """Whether the output has one row per image, and depends on the image."""
    rows = output.ndim in (3, 4) and len(output) == 2 and output.is_floating_point() and output.requires_grad
    return rows and not torch.equal(output[0], output[1])


def _score_gradients(probe: _Probe, outputs: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Gradients of a random mixture of the logits to the outputs of layers, None where there is none."""
    if not outputs or not probe.logits.requires_grad:
        return (None,) * len(outputs)
    generator = torch.Generator().manual_seed(_SEED + 1)
    mixture = torch.randn(probe.logits.shape[1], generator=generator).to(probe.logits)
    return torch.autograd.grad((probe.logits @ mixture).sum(), outputs, retain_graph=True, allow_unused=True)


def _is_constant(probe: _Probe) -> bool:
    """Whether a gradient reaches the images, and is zero: a layer of zeros stands between."""
    gradient = _score_gradients(probe, [probe.images])[0]
    return gradient is not None and not bool(gradient.any())


def _layouts(output: Tensor, probe: _Probe) -> Iterator[Layout]:
    """Ways to read an output as maps, the one that the model declares first."""
    size = (probe.images.shape[2], probe.images.shape[3])
    seen: list[Layout] = []
    declared = layout_of(output, size, probe.model)
    guesses = [] if declared is None else [declared]
    if output.ndim == 4:
        guesses += [Layout("NCHW"), Layout("NHWC")]
    elif output.ndim == 3:
        guesses += _token_grids(output.shape[1], size)
    for layout in guesses:
        grid = layout.maps(output).shape[2:]
        if layout not in seen and (grid in probe.grids or _fits(grid[0], grid[1], size)):
            seen.append(layout)
            yield layout


def _token_grids(count: int, size: tuple[int, int]) -> list[Layout]:
    """Grids of `count` tokens in proportion to the image, the closest first."""
    found = []
    for prefix in range(min(_MOST_PREFIX, count - 1) + 1):
        for rows in range(1, count - prefix + 1):
            columns = (count - prefix) // rows
            if rows * columns == 1 and prefix > 1:
                continue  # tokens of a small grid, taken for prefixes of one cell
            if rows * columns == count - prefix and columns and _fits(rows, columns, size):
                skew = abs(rows * size[1] / (columns * size[0]) - 1)
                found.append((skew, prefix, Layout("tokens", (rows, columns), prefix)))
    return [layout for _, _, layout in sorted(found, key=lambda item: item[:2])][:3]


def _fits(rows: int, columns: int, size: tuple[int, int]) -> bool:
    """Whether the sides could be those of an image of this size, each rounded up or down."""
    return (rows - 1) * size[1] < (columns + 1) * size[0] and (columns - 1) * size[0] < (rows + 1) * size[1]


def _cells(layout: Layout, output: Tensor) -> int:
    return layout.maps(output)[0, 0].numel()


def _local_layout(probe: _Probe, output: Tensor, layouts: list[Layout]) -> Layout | None:
    """The first layout whose positions are those of the image.

    In deep layers every cell may see the whole image, and then influence says neither yes nor no. A grid that the
    network declares or that its convolutions have is therefore refused only for clear evidence; any other must be in
    proportion to the image and show that its corners are those of the image.
    """
    for layout in layouts:
        known = _is_known_grid(probe, output, layout)
        lead = _locality(probe, output, layout)
        if lead is None or lead > (_CONTRADICTED if known else _SHOWN):
            return layout
    return None


def _is_known_grid(probe: _Probe, output: Tensor, layout: Layout) -> bool:
    """Whether the network declares this layout or its last stride, or a convolution or pool has this grid."""
    size = (probe.images.shape[2], probe.images.shape[3])
    declared = layout_of(output, size, probe.model)
    if layout.kind == "tokens" and declared is not None:
        return layout == declared
    if layout.kind == "tokens" and not layout.prefix and layout.grid in reduced_grids(probe.model, size):
        return True
    kind = "NCHW" if declared is None else declared.kind
    return layout.maps(output).shape[2:] in probe.grids and layout.kind in (kind, "tokens")


def _locality(probe: _Probe, output: Tensor, layout: Layout) -> float | None:
    """How much more each corner of the maps is influenced by its own corner of the image than by any other.

    The influence of a quadrant of the image on a cell is the energy there of the gradient of a random mixture of the
    cell's channels. It is compared on a log scale, less what the cell and the quadrant have in common with all others
    (a cell may attend to the whole image, and a quadrant may attract all cells).

    Returns:
        The smallest lead over all corners, both ways; None if no gradient reaches the image from any corner.
    """
    maps = layout.maps(output)
    if not maps.requires_grad:
        return None
    corners = [(row, column) for row in sorted({0, maps.shape[2] - 1}) for column in sorted({0, maps.shape[3] - 1})]
    total = torch.zeros(len(corners), len(corners), dtype=torch.float64, device=maps.device)
    generator = torch.Generator().manual_seed(_SEED + 2)
    for turn in range(2):  # every corner on each of the two images
        mixture = torch.randn(maps.shape[1], generator=generator).to(maps)
        for first in range(0, len(corners), 2):
            pair = {first + (i + turn) % 2: i for i in range(2)}  # corner → image
            cells = [(maps[i, :, *corners[corner]] * mixture).sum() for corner, i in pair.items()]
            gradient = torch.autograd.grad(sum(cells, start=maps.new_zeros(())), probe.images, retain_graph=True)[0]
            for corner, i in pair.items():
                energy = gradient[i].double().square().sum(dim=0)
                total[corner] += _by_part(energy, maps.shape[2] > 1, maps.shape[3] > 1)
    sums = total.sum(dim=1, keepdim=True)
    if not bool((sums > 0).all()):
        return None if bool((sums == 0).all()) else -torch.inf
    shares = (total / sums + _FLOOR).log()
    special = shares - shares.mean(dim=0, keepdim=True) - shares.mean(dim=1, keepdim=True)
    others = special.clone().fill_diagonal_(-torch.inf)
    own = special.diagonal()
    return float(torch.minimum(own - others.amax(dim=0), own - others.amax(dim=1)).min())


def _by_part(energy: Tensor, vertical: bool, horizontal: bool) -> Tensor:
    """Energy `(H, W)` by halves or quadrants, in reading order."""
    rows = energy.tensor_split(2, dim=0) if vertical else (energy,)
    parts = [half.tensor_split(2, dim=1) if horizontal else (half,) for half in rows]
    return torch.stack([part.sum() for row in parts for part in row])
