"""What the Trainer of a phase sets for the whole process is there for that phase alone."""

import os

import torch

from pipelines.parse import parse_pipeline
from pipelines.runner import Runner
from tests.helpers.pipeline import tiny_config, write_config


def test_a_deterministic_phase_makes_no_other_deterministic(tmp_path, monkeypatch):
    """Neither the one that follows nor, as all Trainers are built once before, the one before."""
    dense = tiny_config()["phases"]["dense"] | {"max_epochs": 1}
    chosen = dense | {"trainer": {"deterministic": True}}
    config = write_config(tmp_path, phases={"first": dense, "second": chosen, "third": dense})
    seen, of_cublas = {}, []
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)

    def note(_, trainer, module):
        of_cublas.append(os.environ.get("CUBLAS_WORKSPACE_CONFIG"))
        seen[os.path.basename(trainer.default_root_dir)] = torch.are_deterministic_algorithms_enabled()

    monkeypatch.setattr("callbacks.Diversity.on_train_epoch_start", note)
    pipeline, _ = parse_pipeline(["--config", str(config), "--run_dir", str(tmp_path / "run")])
    Runner(pipeline).run()
    assert seen == {"first": False, "second": True, "third": False}
    assert len(set(of_cublas)) == 1  # it is read once in a process
    assert of_cublas[0] is not None
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
