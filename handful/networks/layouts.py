"""The output of a network or a layer, read as maps `(B, F, h, w)`; nothing else turns tokens into maps."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Kind = Literal["NCHW", "NHWC", "tokens"]

#: Tokens before the patches that a network may have without saying so (class and distillation token).
_MOST_UNDECLARED = 2


@dataclass(frozen=True)
class Layout:
    """How an output is read as maps, and written back.

    Attributes:
        kind: `"NCHW"`, `"NHWC"` or `"tokens"`, `(B, prefix + h·w, F)`.
        grid: h and w of tokens.
        prefix: tokens before the patches: class, distillation and register tokens.

    Example:
        >>> Layout("tokens", grid=(2, 3), prefix=1).maps(torch.zeros(1, 7, 5)).shape
        torch.Size([1, 5, 2, 3])
    """

    kind: Kind
    grid: tuple[int, int] = (0, 0)
    prefix: int = 0

    def maps(self, output: Tensor) -> Tensor:
        """The output as maps `(B, F, h, w)`."""
        if self.kind == "NHWC":
            return output.permute(0, 3, 1, 2)
        if self.kind == "tokens":
            return output[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)
        return output

    def output(self, maps: Tensor, original: Tensor) -> Tensor:
        """Maps as the layer's own output; tokens before the patches are those of `original`, as constants."""
        if self.kind == "NHWC":
            return maps.permute(0, 2, 3, 1)
        if self.kind == "tokens":
            return torch.cat([original[:, : self.prefix].detach(), maps.flatten(2).transpose(1, 2)], dim=1)
        return maps


#: From the output of a network, the size of its images and the network: the layout, or None where it is another's.
Reader = Callable[[object, tuple[int, int], nn.Module], Layout | None]

_READERS: list[Reader] = []


def register_layout(reader: Reader) -> Reader:
    """Register a function that knows the layout of further networks; it is asked before the built-in ones.

    The `Layout` it returns may be of a class of its own, whose `maps` makes `(B, F, h, w)` from the network's output.

    Example:
        >>> @register_layout
        ... def last_of_several(output, size, net):
        ...     return Layout("NCHW") if isinstance(output, list) else None
        >>> output_layout([torch.zeros(1, 4, 2, 2)], (8, 8), nn.Identity())
        Layout(kind='NCHW', grid=(0, 0), prefix=0)
        >>> _READERS.remove(last_of_several)
    """
    _READERS.append(reader)
    return reader


@dataclass(frozen=True)
class GivenGrid:
    """A token grid that was given, for a network that does not declare its own.

    Attributes:
        grid: rows and columns of tokens of an image of `size`.
        size: height and width in pixels of the images it was given for.
    """

    grid: tuple[int, int]
    size: tuple[int, int]

    def of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of an image of another size: each token covers as many pixels as before."""
        rows, columns = (side * cells // built for side, cells, built in zip(size, self.grid, self.size, strict=True))
        return rows, columns


def output_layout(
    output: object, size: tuple[int, int], net: nn.Module, given: GivenGrid | None = None
) -> Layout | None:
    """The layout of what `net` itself gives for images of `size`, or None where it has no spatial positions.

    Args:
        output: what the network gave.
        size: height and width of the images in pixels.
        net: declares its layout as timm's networks do (`output_fmt`, `num_features`, `patch_embed`, `feature_info`).
        given: the grid of a network of tokens that declares none.
    """
    for reader in _READERS:
        found = reader(output, size, net)
        if found is not None:
            return found
    if not isinstance(output, Tensor):
        return None
    if output.ndim == 4:
        if _channels_last(net):
            return Layout("NHWC")
        features = getattr(net, "num_features", None)
        if output.shape[3] == features != output.shape[1]:
            return Layout("NHWC")
        return Layout("NCHW")
    if output.ndim == 3:
        grids = [given.of(size)] if given is not None else [*_declared_grids(net, size), *reduced_grids(net, size)]
        return _tokens(output.shape[1], grids, getattr(net, "num_prefix_tokens", None))
    return None


def layout_of(output: object, size: tuple[int, int], model: nn.Module) -> Layout | None:
    """The layout of a layer's output, or None where it has no spatial positions.

    Maps are as high and wide as the image, in proportion. Where both the inner and the last two sides are (a square
    map with as many channels), or neither, the model's own layout decides; where neither is in a transformer of tokens,
    there are no positions.

    Args:
        output: what the layer gave.
        size: height and width of the images in pixels.
        model: the model, whose token grid and layout are looked up.
    """
    if not isinstance(output, Tensor):
        return None
    owner = _token_network(model, size)
    if output.ndim == 4:
        first = _in_proportion(output.shape[2:], size)
        last = _in_proportion(output.shape[1:3], size)
        if first != last:
            return Layout("NCHW" if first else "NHWC")
        channels_last = any(_channels_last(module) for module in model.modules())
        if not first and owner is not None and not channels_last:
            return None  # attention heads of a transformer
        return Layout("NHWC" if channels_last else "NCHW")
    if output.ndim == 3 and owner is not None:
        grids, prefix = owner
        return _tokens(output.shape[1], grids, prefix)
    return None


def _in_proportion(sides: torch.Size | tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether the sides could be those of an image of this size, each rounded up or down."""
    h, w = sides
    return (h - 1) * size[1] < (w + 1) * size[0] and (w - 1) * size[0] < (h + 1) * size[1]


def _channels_last(module: nn.Module) -> bool:
    return str(getattr(module, "output_fmt", "NCHW")).endswith("NHWC")


def _embedding(module: nn.Module) -> Any:
    """The part that cuts the image into patches: `patch_embed` in timm's transformers, `stem` in its mixers."""
    for name in ("patch_embed", "stem"):
        part = getattr(module, name, None)
        if getattr(part, "grid_size", None) is not None or hasattr(part, "dynamic_feat_size"):
            return part
    return None


def _declared_grids(net: nn.Module, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Rows and columns that the patch embedding declares: for this very size, else the one it was built for."""
    embedding = _embedding(net)
    if embedding is None:
        return
    if hasattr(embedding, "dynamic_feat_size"):
        rows, columns = embedding.dynamic_feat_size(size)
        yield int(rows), int(columns)
    elif _in_proportion(embedding.grid_size, size):
        yield int(embedding.grid_size[0]), int(embedding.grid_size[1])


def reduced_grids(net: nn.Module, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Rows and columns by the stride of the last stage, as `feature_info` declares it, rounded up and down."""
    info = getattr(net, "feature_info", None)
    stage = info[-1] if isinstance(info, list) and info else None
    stride = stage.get("reduction") if isinstance(stage, dict) else None
    if isinstance(stride, int) and stride > 0:
        yield -(-size[0] // stride), -(-size[1] // stride)
        yield size[0] // stride, size[1] // stride


def _token_network(model: nn.Module, size: tuple[int, int]) -> tuple[list[tuple[int, int]], int | None] | None:
    """The grids of the first network of tokens within `model`, and its tokens before the patches."""
    for module in model.modules():
        given = getattr(module, "given_grid", None)
        if isinstance(given, GivenGrid):
            return [given.of(size)], getattr(getattr(module, "net", module), "num_prefix_tokens", None)
        if getattr(_embedding(module), "grid_size", None) is not None:
            return list(_declared_grids(module, size)), getattr(module, "num_prefix_tokens", None)
    return None


def _tokens(count: int, grids: list[tuple[int, int]], prefix: int | None) -> Layout | None:
    """The grid that `count` tokens fill, less those before the patches.

    A single token is a class token or a mean, and no map.
    """
    before = range(_MOST_UNDECLARED + 1) if prefix is None else sorted({prefix, 0}, reverse=True)
    for rows, columns in grids:
        for tokens in before:
            if rows * columns > 1 and count == tokens + rows * columns:
                return Layout("tokens", (rows, columns), tokens)
    return None
