"""Square tiles of images."""

import torch
from torch import Tensor

from handful.conversions import check_whole


def tile_numbers(images: Tensor, tile: int) -> Tensor:
    """Return the number of the tile that each pixel lies in, int64 `(H, W)`, in reading order from 0.

    Args:
        images: `(…, H, W)`.
        tile: side in pixels; tiles at the lower and right edge may be smaller.

    Raises:
        UserError: a side that is not a whole number from 1 to the image's shorter side.

    Example:
        >>> tile_numbers(torch.zeros(2, 3), 2)
        tensor([[0, 0, 1],
                [0, 0, 1]])
    """
    height, width = images.shape[-2:]
    check_whole("tile", tile, 1, min(height, width))
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    return (rows // tile)[:, None] * -(-width // tile) + columns // tile


def tile_sums(maps: Tensor, number: Tensor, n_tiles: int) -> Tensor:
    """Return the sum of maps `(N, H, W)` over each tile, float64 `(N, n_tiles)`."""
    # product with the tiles' indicators: the same on every device, unlike scattered additions
    members = (number.flatten()[:, None] == torch.arange(n_tiles, device=maps.device)).double()
    return maps.flatten(1).double() @ members
