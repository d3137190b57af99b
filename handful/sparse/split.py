"""A held-out share of the rows, the same on one process and on many."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from handful.errors import UserError
from handful.sparse.ranks import gathered


def hold_out(
    labels: Tensor, fraction: float, seed: int, group: ProcessGroup | None = None
) -> tuple[Tensor, Tensor]:
    """Numbers of the rows to fit and of those held out, both ascending; every class keeps rows to fit.

    Each class gives rows in proportion. Under `group` the rows are taken as dealt out in turn (rank, rank + world
    size, …), so that the same images are held out however many processes there are.

    Args:
        labels: (N,) of this process.
        fraction: share in [0, 1) to hold out.
        seed: of the choice.
        group: the processes that share the rows.

    Raises:
        UserError: for a fraction outside [0, 1).
    """
    if not 0.0 <= fraction < 1.0:
        raise UserError(f"val_fraction: {fraction} lies outside [0, 1)")
    everyone = gathered(labels, group)
    rank = 0 if group is None else torch.distributed.get_rank(group)
    # place of every row in the order in which one process would have had it
    places = [torch.arange(len(part)) * len(everyone) + r for r, part in enumerate(everyone)]
    whole = torch.cat(everyone)[torch.cat(places).argsort()]
    mine = torch.cat(places).argsort().argsort().split([len(part) for part in everyone])[rank]
    shuffled = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[whole[shuffled].argsort(stable=True)]
    # every (1/fraction)-th row in the order of class
    count = torch.arange(len(whole) + 1, dtype=torch.float64) * fraction + 0.5
    taken = count[1:].floor() > count[:-1].floor()
    sizes = torch.bincount(whole)
    emptied = sizes == torch.bincount(whole[by_class[taken]], minlength=len(sizes))
    # a class that would be left without rows keeps its last one
    taken[(sizes.cumsum(0) - 1)[emptied & (sizes > 0)]] = False
    held = torch.zeros(len(whole), dtype=torch.bool)
    held[by_class[taken]] = True
    held = held[mine]
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]
