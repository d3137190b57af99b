"""Which process this is, before and after a Trainer exists, and what process 0 does for all."""

from collections.abc import Callable
from typing import Any, TypeVar

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_only

from handful.errors import UserError

T = TypeVar("T")


def global_rank() -> int:
    """The rank, from the environment of the launcher until a Trainer has set it; 0 on one process."""
    marked: Any = rank_zero_only
    return int(marked.rank)


def on_rank_zero(trainer: pl.Trainer | None, function: Callable[[], T], share_result: bool = False) -> T | None:
    """Run a function on rank zero, while the others wait.

    Args:
        trainer: whose processes have been started; None for this process alone.
        function: called on rank zero.
        share_result: return the result, pickled, on every rank, rather than on rank zero alone and None on the others.

    Raises:
        UserError: on every rank, what the function raised, an `OSError` among it: none waits for the others.
    """
    result: T | None = None
    failure: UserError | None = None
    if trainer is None or trainer.is_global_zero:
        try:
            result = function()
        except UserError as error:
            failure = error
        except OSError as error:
            failure = UserError(str(error))
    if trainer is not None and trainer.world_size > 1:
        shared, said = trainer.strategy.broadcast((result if share_result else None, failure and str(failure)))
        result = shared if share_result else result
        failure = failure or (None if said is None else UserError(said))
    if failure is not None:
        raise failure
    return result
