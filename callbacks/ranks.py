"""Gathering of objects over all processes."""

from typing import Any

import lightning.pytorch as pl
import torch.distributed


def gather_objects(trainer: pl.Trainer, mine: Any) -> list[Any]:
    """Return the objects of all processes in the order of their ranks; every process must call this."""
    if trainer.world_size == 1 or not torch.distributed.is_initialized():
        return [mine]
    every: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(every, mine)
    return every
