"""Processes that torchrun or SLURM has started at once: one of them decides, the others follow."""

import os
import subprocess
import sys

import pytest

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
print(rank, every[0] == every[1], said, flush=True)
"""


def run(tmp_path, launcher):
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [str(script), str(tmp_path)]
    if launcher == "torchrun":
        processes = [
            [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", *command]
        ]
        environments = [given]
    else:
        shared = {"NTASKS": "2", "NTASKS_PER_NODE": "2", "JOB_ID": str(os.getpid()), "JOB_NAME": "train", "NODEID": "0"}
        shared = {f"SLURM_{name}": value for name, value in shared.items()}
        processes = [[sys.executable, *command]] * 2
        environments = [{**given, **shared, "SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in "01"]
    started = [
        subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)
        for arguments, environment in zip(processes, environments, strict=True)
    ]
    texts = [process.communicate(timeout=300)[0] for process in started]
    return sorted("".join(texts).splitlines()), sorted(p.name for p in tmp_path.glob("asked-*"))


@pytest.mark.parametrize("launcher", ["torchrun", "slurm"])
def test_process_0_decides_and_fails_for_all(tmp_path, launcher):
    said, asked = run(tmp_path, launcher)
    assert asked == ["asked-0"]
    assert said == ["0 True no images for 0", "1 True no images for 0"]
