"""No process group of a run is left to the end of the interpreter, where its threads abort the process."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import pipelines.cli
from pipelines.process_group import group_ended


@pytest.fixture
def connect(tmp_path):
    """Makes a process group of this process alone; none is left after the test."""
    yield lambda: dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize("failure", [None, ValueError("a phase failed")])
def test_a_group_ends_with_the_command_that_made_it(connect, monkeypatch, failure):
    def run(_):
        connect()
        model = DistributedDataParallel(torch.nn.Linear(2, 2))  # an error's traceback would keep it
        model(torch.ones(1, 2)).sum().backward()
        if failure:
            raise failure

    monkeypatch.setattr(pipelines.cli, "_run", run)
    if failure:
        with pytest.raises((ValueError, SystemExit)):
            pipelines.cli.main(["fit"])
    else:
        pipelines.cli.main(["fit"])
    assert not dist.is_initialized()
    assert not [name for name in threads() if "gloo" in name]


def threads():
    return [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]


def test_a_group_that_was_there_before_stays(connect):
    connect()
    with group_ended():
        pass
    assert dist.is_initialized()
