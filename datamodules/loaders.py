"""Loaders whose failures reach the user as a sentence, and that begin no earlier than needed."""

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import default_collate as collate_tensors

from handful.errors import UserError

_SHARED_MEMORY = Path("/dev/shm")
# Loader processes that are started where nobody says how many; fewer pixels than these are loaded without.
_MOST_PROCESSES, _FEW_PIXELS = 8, 2**26
# Batches that each loader process prepares ahead, and one more that is in use.
_BATCHES_AHEAD = 3


@dataclass(frozen=True)
class Refused:
    """What a loader process sends instead of a batch that cannot be read: the sentence for the user."""

    sentence: str


class LateLoader(DataLoader[tuple[Tensor, int]]):
    """A loader that begins when the first batch is asked for, not when the iterator is made.

    Lightning makes the iterator of a resumed run before it has settled which epoch comes next, and loader processes
    would ask the sampler for their first batches at once.

    Raises:
        UserError: on iteration: an image that cannot be read, named as without loader processes; a loader process that
            was killed.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise UserError(_killed(str(error), self.num_workers)) from None
            if isinstance(batch, Refused):
                raise UserError(batch.sentence)
            yield batch


def collate(items: Sequence[Any] | Refused) -> Any:
    """Stack items to a batch; a `UserError` passes unchanged."""
    return items if isinstance(items, Refused) else collate_tensors(list(items))


def in_loader_process() -> bool:
    """Whether this process loads for another one."""
    return get_worker_info() is not None


def spare_processes(cores: int, feeds_gpu: bool, pixels: float = math.inf) -> int:
    """Return how many loader processes pay where nobody says how many.

    On one core, to load and augment an image of 224 pixels takes 1 to 3 ms and to train efficientnet_lite0 on it 70 to
    110. On a CPU, one process that loads between the steps therefore costs little until the steps are divided over many
    cores; a GPU waits for it.

    Args:
        cores: that this process may use.
        feeds_gpu: whether the batches go to a GPU.
        pixels: of all images of an epoch; few are loaded before processes have started.

    Example:
        >>> [spare_processes(cores, False, 2**30) for cores in (2, 8, 16)]
        [0, 1, 2]
        >>> [spare_processes(cores, True, 2**30) for cores in (2, 8, 16)]
        [0, 7, 8]
    """
    if cores <= 2 or pixels < _FEW_PIXELS:
        return 0
    return min(_MOST_PROCESSES, cores - 1 if feeds_gpu else cores // 8)


def affordable_workers(workers: int, batch_bytes: int, wanted: bool = True) -> int:
    """Return how many loader processes fit into shared memory, through which they hand over batches: all or none.

    Args:
        workers: how many are wanted.
        batch_bytes: size of the largest batch.
        wanted: whether somebody has asked for them, and is warned.
    """
    if workers == 0 or not _SHARED_MEMORY.is_dir():
        return workers
    found = os.statvfs(_SHARED_MEMORY)
    free = found.f_bavail * found.f_frsize
    needed = workers * _BATCHES_AHEAD * batch_bytes
    if needed <= free:
        return workers
    if not wanted:
        return 0
    warnings.warn(
        f"{_SHARED_MEMORY} has {free / 2**20:.0f} MiB free, and {workers} loader processes need {needed / 2**20:.0f}: "
        "images are loaded in the training process. Give the container more, for example with docker run "
        "--shm-size=2g, or lower data.num_workers or data.batch_size.",
        stacklevel=2,
    )
    return 0


def _killed(error: str, workers: int) -> str:
    what = "had no shared memory left" if "shared memory" in error or "Bus error" in error else "was killed"
    return (
        f"A loader process {what}, probably because memory ran out: lower data.num_workers (now {workers}) or "
        "data.batch_size, or give the container more shared memory, for example with docker run --shm-size=2g."
    )
