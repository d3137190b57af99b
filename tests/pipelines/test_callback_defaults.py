"""Callbacks whose arguments have defaults that no config can hold: a device, a span of time, a path."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from pipelines.build import plain
from pipelines.parse import parse_pipeline
from pipelines.runner import Runner
from tests.helpers import forked
from tests.helpers.pipeline import tiny_config, write_config


def test_what_is_recorded_of_them_is_plain():
    given = {"device": torch.device("cpu"), "type": torch.float16, "time": timedelta(seconds=3), "path": Path("a")}
    assert json.loads(json.dumps(plain(given))) == {
        "device": "cpu", "type": "torch.float16", "time": "0:00:03", "path": "a"
    }  # fmt: skip


def phase_with_averaged_weights(**changes):
    averaging = {"class_path": "StochasticWeightAveraging", "init_args": {"swa_lrs": 0.01, "swa_epoch_start": 1}}
    return tiny_config()["phases"]["dense"] | {"max_epochs": 3, "callbacks": [averaging]} | changes


@pytest.mark.parametrize("schedule", [None, {"class_path": "StepLR", "init_args": {"step_size": 1}}])
def test_a_training_is_resumed_after_averaging_has_begun(tmp_path, monkeypatch, schedule):
    """Its schedule takes the place of the training's own only when an epoch begins."""
    phase = phase_with_averaged_weights()
    phase["callbacks"].append({"class_path": "tests.helpers.interrupt.KillAt"})
    phase["module"]["init_args"]["lr_scheduler"] = schedule
    config, run = write_config(tmp_path, phases={"dense": phase}), tmp_path / "run"
    for kill in ("Dense/2/1", ""):
        monkeypatch.setenv("HANDFUL_KILL", kill)
        ended = forked.run(["pipeline", "--config", config, "--run_dir", run], run)
        assert ended.status == (-9 if kill else 0), ended.text
    assert "resumed from" in ended.text


def test_a_phase_with_averaged_weights_ends_and_is_known_as_the_same(tmp_path):
    config = write_config(tmp_path, phases={"dense": phase_with_averaged_weights()})
    given = ["--config", str(config), "--run_dir", str(tmp_path / "run")]
    first = Runner(parse_pipeline(given)[0]).run()
    written = (tmp_path / "run/dense/done.json").stat().st_mtime_ns
    assert Runner(parse_pipeline(given)[0]).run() == first
    assert (tmp_path / "run/dense/done.json").stat().st_mtime_ns == written
