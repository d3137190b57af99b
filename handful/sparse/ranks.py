"""Sums over the processes that share the rows."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup


def total(values: Tensor, group: ProcessGroup | None) -> Tensor:
    """The sum of `values` over the processes of `group`; `values` itself for one process."""
    return values if group is None else _reduced(values, dist.ReduceOp.SUM, group)


def largest(values: Tensor, group: ProcessGroup | None) -> Tensor:
    """The largest of `values` over the processes of `group`, element by element."""
    return values if group is None else _reduced(values, dist.ReduceOp.MAX, group)


def gathered(values: Tensor, group: ProcessGroup | None) -> list[Tensor]:
    """The (differently long) vectors of all processes, in the order of their ranks, on the CPU."""
    if group is None:
        return [values.cpu()]
    everyone: list[Tensor] = [torch.empty(0)] * dist.get_world_size(group)
    dist.all_gather_object(everyone, values.cpu(), group=group)
    return everyone


def _reduced(values: Tensor, operation: dist.ReduceOp.RedOpType, group: ProcessGroup) -> Tensor:
    # gloo reduces on the CPU, nccl on the GPU: move to where the group works, and back
    device = "cuda" if dist.get_backend(group) == "nccl" else "cpu"
    moved = values.detach().to(device, copy=True)
    dist.all_reduce(moved, op=operation, group=group)
    return moved.to(values.device)
