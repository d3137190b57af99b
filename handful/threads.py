"""How many threads a computation on the CPU is given."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from handful.cores import usable_cores

#: Multiplications of one product below which threads cost more than they bring.
_SMALL = 2**27


@contextmanager
def threads_for(multiplications: float) -> Iterator[None]:
    """One thread within, for products that are small; else as many as before.

    Threads wait for each other after every product, spinning: on a machine that others use as well, a path of small
    products takes far longer with several.

    Args:
        multiplications: of one of the products.

    Example:
        >>> with threads_for(1000):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    if multiplications >= _SMALL or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def use_the_cores(processes: int = 1, environment: Mapping[str, str] = os.environ) -> int:
    """Give torch as many threads as the process may use cores, by affinity and control group.

    Args:
        processes: of this run on this machine, which share the cores.
        environment: of the process; `OMP_NUM_THREADS` and `MKL_NUM_THREADS` take precedence.

    Returns:
        The number of threads from now on.
    """
    if not any(environment.get(name, "").strip() for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")):
        torch.set_num_threads(max(1, usable_cores() // max(1, processes)))
    return torch.get_num_threads()
