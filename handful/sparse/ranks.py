"""Sums over the processes that share the rows."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup


def total(values: Tensor, group: ProcessGroup | None) -> Tensor:
    """The sum of `values` over the processes of `group`; `values` itself for one process."""
    if group is None:
        return values
    # gloo reduces on the CPU, nccl on the GPU: move to what the group can do, and back
    moved = values.clone() if dist.get_backend(group) == "nccl" else values.detach().cpu().clone()
    dist.all_reduce(moved, group=group)
    return moved.to(values.device)


def largest(values: Tensor, group: ProcessGroup | None) -> Tensor:
    """The largest of `values` over the processes of `group`, element by element."""
    if group is None:
        return values
    moved = values.clone() if dist.get_backend(group) == "nccl" else values.detach().cpu().clone()
    dist.all_reduce(moved, op=dist.ReduceOp.MAX, group=group)
    return moved.to(values.device)


def default_group() -> ProcessGroup | None:
    """The process group of a running distributed job, None in a single process."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return dist.group.WORLD
    return None


def gathered(values: Tensor, group: ProcessGroup | None) -> list[Tensor]:
    """The (differently long) vectors of all processes, in the order of their ranks."""
    if group is None:
        return [values]
    everyone: list[Tensor] = [torch.empty(0)] * dist.get_world_size(group)
    dist.all_gather_object(everyone, values.cpu(), group=group)
    return everyone
