"""Offline W&B runs: one a phase, in one group, readable, continued when a phase is resumed."""

import csv

import pytest

from pipelines.parse import parse_pipeline
from pipelines.runner import Runner
from tests.helpers.pipeline import tiny_config, write_config
from tests.helpers.wandb_file import run_of


def test_offline_runs_can_be_read_back(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path))
    phases = {name: tiny_config()["phases"][name] for name in ("dense", "evaluate")}
    config = write_config(tmp_path, phases=phases, wandb={"mode": "auto", "project": "birds"})
    arguments = ["--config", config, "--run_dir", tmp_path / "run", "--trainer.log_every_n_steps", "1"]
    pipeline, _ = parse_pipeline([*map(str, arguments), "--phases.dense.max_epochs", "2"])
    Runner(pipeline).run()
    found = {}
    for path in (tmp_path / "run").rglob("*.wandb"):
        run, settings, history = run_of(path)
        assert run.run_group == "tiny"
        assert run.project == "birds"
        assert settings["phase"] == run.job_type
        assert settings["seed"] == 0
        found[run.job_type] = (run, history)
    assert set(found) == {"dense", "evaluate"}
    run, history = found["dense"]
    assert run.display_name == "tiny-dense"
    assert run.run_id == (tmp_path / "run/dense/wandb_id").read_text()
    expected = {"val/accuracy", "val/diversity@1", "val/diversity@5", "train/loss", "trainer/global_step"}
    assert expected <= set().union(*history)
    logged = [row["val/accuracy"] for row in history if "val/accuracy" in row]
    with (tmp_path / "run/dense/metrics.csv").open() as file:
        written = [float(row["val/accuracy"]) for row in csv.DictReader(file) if row["val/accuracy"]]
    assert logged == pytest.approx(written)
    assert len(logged) == 2
    assert "test/accuracy" in set().union(*found["evaluate"][1])


def test_logged_in_nowhere_means_offline_without_a_question(tmp_path, monkeypatch):
    from pipelines.loggers import _mode
    from pipelines.phases import WandbConfig

    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert _mode(WandbConfig()) == "offline"
    assert _mode(WandbConfig(mode="disabled")) == "disabled"
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert _mode(WandbConfig()) == "offline"
