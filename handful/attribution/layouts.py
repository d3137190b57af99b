"""What a layer gives, read as maps `(B, F, h, w)`: channels first, channels last, or tokens of a transformer."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """How a layer's output is read as maps, and written back.

    Attributes:
        kind: `"NCHW"`, `"NHWC"` or `"tokens"`, `(B, prefix + h·w, F)`.
        grid: h and w of tokens.
        prefix: tokens before the patches, such as the class token.
    """

    kind: Literal["NCHW", "NHWC", "tokens"]
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


def layout_of(output: object, size: tuple[int, int], model: nn.Module) -> Layout | None:
    """The layout of a layer's output, or None where it has no places.

    Maps are as high and wide as the image, in proportion. Where both the inner and the last two sides are (a square
    map with as many channels), or neither, the model's own layout decides; where neither is in a transformer of tokens,
    there are no places.

    Args:
        output: what the layer gave.
        size: height and width of the images in pixels.
        model: the model, whose token grid and layout are looked up (timm's `patch_embed`, `output_fmt`).
    """
    if not isinstance(output, Tensor):
        return None
    if output.ndim == 4:
        first = _in_proportion(output.shape[2:], size)
        last = _in_proportion(output.shape[1:3], size)
        if first != last:
            return Layout("NCHW" if first else "NHWC")
        if not first and _grid(model) is not None and not _channels_last(model):
            return None  # attention heads of a transformer
        return Layout("NHWC" if _channels_last(model) else "NCHW")
    if output.ndim == 3:
        return _tokens(output.shape[1], model)
    return None


def _in_proportion(sides: torch.Size, size: tuple[int, int]) -> bool:
    """Whether the sides could be those of an image of this size, each rounded up or down."""
    h, w = sides
    return (h - 1) * size[1] < (w + 1) * size[0] and (w - 1) * size[0] < (h + 1) * size[1]


def _channels_last(model: nn.Module) -> bool:
    return any(str(getattr(module, "output_fmt", "NCHW")).endswith("NHWC") for module in model.modules())


def _grid(model: nn.Module) -> tuple[tuple[int, int], int] | None:
    """A transformer's rows and columns of patches, and the tokens before them."""
    for module in model.modules():
        grid = getattr(getattr(module, "patch_embed", None), "grid_size", None)
        if grid is not None:
            return (int(grid[0]), int(grid[1])), int(getattr(module, "num_prefix_tokens", 0))
    return None


def _tokens(count: int, model: nn.Module) -> Layout | None:
    found = _grid(model)
    if found is not None:
        (rows, columns), prefix = found
        for before in (prefix, 0):
            if count == before + rows * columns:
                return Layout("tokens", (rows, columns), before)
    return None
