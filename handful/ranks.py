"""Which images of a data set a process holds: rank r of W holds the dataset indices r, r + W, r + 2W and so on."""

from collections.abc import Sequence

from torch import Tensor


def share(size: int, rank: int, world_size: int) -> range:
    """The dataset indices that a rank holds.

    Args:
        size: N, of the data set.
        rank: in [0, world_size).
        world_size: W, number of processes.

    Example:
        >>> list(share(7, rank=1, world_size=3))
        [1, 4]
    """
    return range(rank, size, world_size)


def dataset_indices(start: int, count: int, rank: int, world_size: int) -> list[int]:
    """The dataset indices of `count` images of a rank, which has met `start` before them.

    Example:
        >>> dataset_indices(2, 2, rank=1, world_size=3)
        [7, 10]
    """
    return [(start + i) * world_size + rank for i in range(count)]


def interleave(parts: Sequence[Tensor], size: int) -> Tensor:
    """Rows of all ranks in the order of the data set: `(N, …)`.

    Args:
        parts: by rank, the rows `(n_r, …)` of its images in their order; a rank without images may give an empty
            tensor of any width.
        size: N.

    Raises:
        ValueError: a rank has given more or fewer rows than it holds.

    Example:
        >>> import torch
        >>> interleave([torch.tensor([0, 2]), torch.tensor([1])], size=3)
        tensor([0, 1, 2])
    """
    filled = next((part for part in parts if len(part)), parts[0])
    rows = filled.new_empty((size, *filled.shape[1:]))
    for rank, part in enumerate(parts):
        held = share(size, rank, len(parts))
        if len(part) != len(held):
            raise ValueError(f"rank {rank} gave {len(part)} rows, but holds {len(held)} of {size} images")
        if len(part):
            rows[rank :: len(parts)] = part
    return rows
