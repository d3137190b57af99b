"""Processes that torchrun or SLURM has started at once: one of them decides, the others follow."""

import os
import sys
import tempfile

import pytest

import pipelines.one_decision  # noqa: F401  imported before processes are forked
from tests.helpers import forked
from tests.helpers.pipeline import ROOT

_SCRIPT = """
import os, sys
import torch.distributed as dist
from handful.errors import UserError
from pipelines.one_decision import decided_once

rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID")))

def decide():
    open(f"{sys.argv[1]}/asked-{rank}", "w").close()
    return {"backbone": rank, "pid": os.getpid()}

def fail():
    raise UserError(f"no images for {rank}")

found = decided_once("values", decide)
try:
    decided_once("others", fail)
except UserError as error:
    said = str(error)
os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
dist.init_process_group("gloo")  # meets at the same port
every = [None, None]
dist.all_gather_object(every, found)
with open(f"{sys.argv[1]}/said-{rank}", "w") as file:
    print(rank, every[0] == every[1], said, file=file)
dist.destroy_process_group()  # whose threads abort a process now and then that ends with them
"""


def by_torchrun(folder):
    script = folder / "script.py"
    script.write_text(_SCRIPT)

    def work():
        from torch.distributed.run import main

        os.environ["PYTHONPATH"] = str(ROOT)
        tempfile.tempdir = str(folder)  # torchrun leaves its logs there
        main(["--nproc_per_node", "2", "--standalone", str(script), str(folder)])
        os._exit(0)

    assert forked.wait([forked.fork(work)], forked.LONGEST) == [0]


def by_slurm(folder):
    """Processes with the environment that srun gives to them."""
    shared = {"NTASKS": "2", "NTASKS_PER_NODE": "2", "JOB_ID": str(os.getpid()), "JOB_NAME": "train", "NODEID": "0"}

    def work(rank):
        given = shared | {"PROCID": str(rank), "LOCALID": str(rank)}
        os.environ |= {f"SLURM_{name}": value for name, value in given.items()}
        sys.argv = ["script.py", str(folder)]
        exec(_SCRIPT, {})
        os._exit(0)

    assert forked.wait([forked.fork(lambda rank=rank: work(rank)) for rank in range(2)], forked.LONGEST) == [0, 0]


@pytest.mark.parametrize("launch", [by_torchrun, by_slurm])
def test_process_0_decides_and_fails_for_all(tmp_path, launch):
    launch(tmp_path)
    said = [(tmp_path / f"said-{rank}").read_text() for rank in range(2)]
    assert sorted(p.name for p in tmp_path.glob("asked-*")) == ["asked-0"]
    assert said == ["0 True no images for 0\n", "1 True no images for 0\n"]
