"""The connection among the processes of a run, which ends while there is still an interpreter."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def group_ended() -> Iterator[None]:
    """End the process group of torch that the block has made, if any; one that was there before stays.

    Lightning ends those of NCCL only. Threads of a group of Gloo that are left to the end of the interpreter abort the
    process now and then (https://github.com/pytorch/pytorch/pull/179291): a finished run would end with status 134.
    """
    before = _exists()
    try:
        yield
    finally:
        if not before and _exists():
            sys.modules["torch.distributed"].destroy_process_group()


def _exists() -> bool:
    distributed = sys.modules.get("torch.distributed")  # not imported for a command that needs no torch
    return distributed is not None and distributed.is_available() and distributed.is_initialized()
