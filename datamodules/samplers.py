"""Samplers that give the same samples whatever the number of processes, workers or interruptions.

Both are `DistributedSampler`s, because Lightning leaves loaders with such a sampler as they are and would replace any
other by its own, which repeats samples in evaluation.
"""

from collections.abc import Callable, Iterator, Sized

import torch
from torch.utils.data import DistributedSampler

from handful.ranks import share

# What a training sampler yields and a training data set understands: the epoch and the image's dataset index.
EpochAndIndex = tuple[int, int]


class EvaluationSampler(DistributedSampler[int]):
    """Yields `rank, rank + world_size, …`: every sample once over all ranks, none repeated.

    Args:
        dataset: anything with a length.
        rank: of this process, from 0.
        world_size: number of processes.
    """

    def __init__(self, dataset: Sized, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, shuffle=False)  # type: ignore[arg-type]
        self._indices = share(len(dataset), rank, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


class TrainingSampler(DistributedSampler[EpochAndIndex]):
    """Yields `(epoch, index)` in an order that depends on (seed, epoch) alone.

    The order is filled up from its own beginning until every rank has equally many. The epoch is asked for when the
    iteration begins, not set from outside: loaders with workers begin before Lightning calls `set_epoch`, and a
    resumed run must meet the orders of an unbroken one.

    Args:
        dataset: anything with a length.
        epoch: returns the current epoch.
        seed: chooses the orders.
        rank: of this process, from 0.
        world_size: number of processes.
        batch_size: images in a batch. Where one image of a rank would be left alone in the last batch, which batch
            norms cannot learn from, it is left out: another one in each epoch.
    """

    def __init__(
        self,
        dataset: Sized,
        epoch: Callable[[], int],
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int = 1,
    ) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, shuffle=True, seed=seed)  # type: ignore[arg-type]
        self._size = len(dataset)
        self._current_epoch = epoch
        whole = -(-self._size // world_size)
        self.leaves_one_out = whole > batch_size > 1 == whole % batch_size
        self._count = whole - self.leaves_one_out

    def __iter__(self) -> Iterator[EpochAndIndex]:
        epoch = self._current_epoch()
        generator = torch.Generator().manual_seed(mixed(self.seed, epoch))
        order = torch.randperm(self._size, generator=generator)
        mine = order[torch.arange(self.rank, len(self) * self.num_replicas, self.num_replicas) % self._size]
        return ((epoch, index) for index in mine.tolist())

    def __len__(self) -> int:
        return self._count


def mixed(*numbers: int) -> int:
    """Return a 63-bit number that depends on all of the given non-negative ones in a scattered way (SplitMix64)."""
    state = 0
    for number in numbers:
        state = (state ^ number) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
