"""Work on two processes of one group, forked, which meet at a file: no port that another program may have taken."""

import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from tests.helpers.forked import LONGEST, fork, wait


def on_two_processes(work: Callable[[int], Any], timeout: float = LONGEST) -> list[Any]:
    """Call `work` with the rank on both ranks of a gloo group; what each returned.

    Args:
        work: what it returns is pickled.
        timeout: in seconds.

    Raises:
        AssertionError: one of them failed; what it printed stands in the output of the test.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        children = [fork(lambda rank=rank: _rank(rank, folder, work)) for rank in range(2)]
        statuses = wait(children, timeout, work)
        assert statuses == [0, 0], f"ended with {statuses}"
        return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(2)]


def every_second(rank: int) -> slice:
    """The images that a rank has of a data set, as Lightning would share them out."""
    return slice(rank, None, 2)


def _rank(rank: int, folder: Path, work: Callable[[int], Any]) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # whatever the machine's name resolves to
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    result = work(rank)
    distributed.barrier()  # neither is gone while the other still speaks to it
    (folder / str(rank)).write_bytes(pickle.dumps(result))
    distributed.destroy_process_group()
    os._exit(0)
