"""Planted features for the tests of this folder, and two processes to spread them over."""

import os
import socket

import torch
from torch import distributed, multiprocessing


def features_with_ties(images=90, classes=3, num_features=12, signed=False):
    """Rounded features, so that many tie, and labels of every class."""
    generator = torch.Generator().manual_seed(0)
    features = (torch.rand(images, num_features, generator=generator) * 6 - (3 if signed else 1)).round()
    features = features if signed else features.clamp(min=0)
    return features, torch.arange(images) % classes


def _worker(rank, port, work, results):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.save(work(rank), results[rank])
    distributed.destroy_process_group()


def on_two_processes(work):
    """`work(rank)` in two processes of one group; returns what each gave."""
    import tempfile

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        results = [f"{folder}/{rank}.pt" for rank in range(2)]
        multiprocessing.start_processes(_worker, (port, work, results), nprocs=2, start_method="fork")
        return [torch.load(path, weights_only=True) for path in results]
