"""The connection among the processes of a run, which ends while there is still an interpreter."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def group_ended() -> Iterator[None]:
    """End the process group of torch that the block has made, if any; one that was there before stays.

    Lightning ends those of NCCL only, at the end of the process. Threads of a group of Gloo that are left until then
    abort the process now and then (https://github.com/pytorch/pytorch/pull/179291): a finished run would end with
    status 134. After an error a group of NCCL is left to Lightning: ending it may wait for the other processes, and
    the error would be shown only after that.
    """
    before = _exists()
    try:
        yield
    except BaseException as error:
        if not before and _exists() and _distributed().get_backend() == "gloo":
            _let_go(error)
            with suppress(RuntimeError):  # of a connection that is lost
                _distributed().destroy_process_group()
        raise
    if not before and _exists():
        _distributed().destroy_process_group()


def _let_go(error: BaseException | None) -> None:
    """Empty the frames of an error, which hold models that hold the group, and its threads."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _distributed() -> Any:
    return sys.modules["torch.distributed"]


def _exists() -> bool:
    distributed = sys.modules.get("torch.distributed")  # not imported for a command that needs no torch
    return distributed is not None and distributed.is_available() and distributed.is_initialized()
