"""What every process holds, on all of them."""

from typing import Any

import lightning.pytorch as pl
import torch.distributed


def gather_objects(trainer: pl.Trainer, mine: Any) -> list[Any]:
    """The same kind of thing from every process, in the order of the ranks; all of them must call."""
    if trainer.world_size == 1 or not torch.distributed.is_initialized():
        return [mine]
    every: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(every, mine)
    return every
