"""Which process this is, before and after a Trainer exists."""

from typing import Any

from lightning.pytorch.utilities import rank_zero_only


def global_rank() -> int:
    """The rank, from the environment of the launcher until a Trainer has set it; 0 on one process."""
    marked: Any = rank_zero_only
    return int(marked.rank)
