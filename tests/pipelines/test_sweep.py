"""The shipped sweep: W&B's own check of it, and one of its runs as W&B's agent starts it."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from lightning_modules import Dense, save_module
from pipelines.wandb_sweep import in_sweep, leave_sweep
from tests.helpers.pipeline import ROOT, tiny_config
from tests.helpers.wandb_file import run_of, summary_of, wait_for_end

SWEEP = ROOT / "configs/sweeps/features_by_features_per_class.yaml"


def test_every_point_of_the_grid_can_be_run():
    from wandb.sdk.launch.sweeps.utils import load_sweep_config  # seconds, for these tests alone

    sweep = load_sweep_config(str(SWEEP))
    values = {name.rpartition(".")[2]: one["values"] for name, one in sweep["parameters"].items()}
    assert min(values["n_features"]) >= max(values["features_per_class"])
    assert sweep["project"] == "handful"


def test_wandbs_scheme_of_sweeps_takes_it():
    schema = pytest.importorskip("sweeps.config", reason="pip install --no-deps sweeps: it asks for numpy before 2")
    assert schema.schema_violations_from_proposed_config(yaml.safe_load(SWEEP.read_text())) == []


def file_of(folder: Path) -> Path:
    """The file of the one run in a folder, when it has ended."""
    (path,) = folder.rglob("*.wandb")
    wait_for_end(path)
    return path


def test_one_of_its_runs(tmp_path, monkeypatch):
    from wandb.wandb_agent import Agent

    sweep = yaml.safe_load(SWEEP.read_text())
    tiny = tiny_config()
    del tiny["wandb"], tiny["phases"]["dense"]["callbacks"], tiny["phases"]["finetune"]["callbacks"]
    tiny["phases"]["finetune"]["max_epochs"] = 1
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny, sort_keys=False))
    torch.manual_seed(0)
    (tmp_path / "dense").mkdir()
    save_module(Dense({**tiny["network"]}, 3), tmp_path / "dense/best.ckpt")
    script = sweep["command"][2]
    for there, here in (
        ("train.py", str(ROOT / "train.py")), ("configs/quickstart.yaml", str(tmp_path / "tiny.yaml")),
        ("runs/quickstart/dense", str(tmp_path / "dense")), ("runs/sweeps", str(tmp_path / "sweeps")),
        ("python", sys.executable),
    ):  # fmt: skip
        assert there in script
        script = script.replace(there, here, 1)
    sweep["command"][2] = script
    for name, value in (
        ("WANDB_MODE", "offline"), ("HOME", str(tmp_path)), ("WANDB_SWEEP_ID", "ab12cd34"), ("WANDB_SERVICE", ""),
        ("OMP_NUM_THREADS", "1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    for name in ("WANDB_DIR", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # which the agent leaves in its process
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    agent = Agent(api=None, queue=None, sweep_id="ab12cd34")
    agent._sweep_command = sweep["command"]
    parameters = {"phases.sparsify.module.n_features": 5, "phases.sparsify.module.features_per_class": 2}
    agent._command_run(
        {"run_id": "run12345", "program": "train.py", "args": {k: {"value": v} for k, v in parameters.items()}}
    )
    process = agent._run_processes["run12345"]
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if process.poll() is None:
        process.kill()
    assert process.poll() == 0
    done = tmp_path / "sweeps/run12345"
    results = json.loads((done / "results.json").read_text())["stages"]
    assert (results["finetuned"]["n_features"], results["finetuned"]["features_per_class"]) == (5, 2)
    of_sweep = file_of(done / "summary")
    run, summary = run_of(of_sweep)[0], summary_of(of_sweep)
    assert (run.run_id, run.sweep_id) == ("run12345", "ab12cd34")
    assert summary["finetuned/accuracy"] == results["finetuned"]["accuracy"]
    others = [run_of(file_of(done / phase))[0] for phase in ("sparsify", "finetune", "evaluate")]
    assert {other.sweep_id for other in others} == {""}
    assert len({other.run_id for other in (*others, run)}) == 4


def test_without_a_sweep_the_environment_stays(monkeypatch):
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    leave_sweep()
    with in_sweep() as chosen:
        assert not chosen
    assert os.environ["WANDB_RUN_ID"] == "mine"
