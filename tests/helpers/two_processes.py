"""Metrics on two real processes, each with every second image, as Lightning would share them out."""

from collections.abc import Callable
from typing import Any

from torch import distributed, multiprocessing


def on_two_processes(work: Callable[[slice], Any], port: int) -> list[Any]:
    """Call `work` with the images of a rank on both ranks of a gloo group; what each returned, plain values.

    Args:
        work: gets `slice(rank, None, 2)`; runs in a forked process.
        port: nobody listens on.
    """
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_rank, args=(rank, port, queue, work)) for rank in range(2)]
    for worker in workers:
        worker.start()
    results = dict(queue.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(60)
    return [results[0], results[1]]


def _rank(rank: int, port: int, queue: Any, work: Callable[[slice], Any]) -> None:
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    queue.put((rank, work(slice(rank, None, 2))))
    distributed.barrier()
    distributed.destroy_process_group()
