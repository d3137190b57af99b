"""Callbacks whose arguments have defaults that no config can hold: a device, a span of time, a path."""

import json
from datetime import timedelta
from pathlib import Path

import torch

from pipelines.build import plain
from pipelines.parse import parse_pipeline
from pipelines.runner import Runner
from tests.helpers.pipeline import tiny_config, write_config


def test_what_is_recorded_of_them_is_plain():
    given = {"device": torch.device("cpu"), "type": torch.float16, "time": timedelta(seconds=3), "path": Path("a")}
    assert json.loads(json.dumps(plain(given))) == {
        "device": "cpu", "type": "torch.float16", "time": "0:00:03", "path": "a"
    }  # fmt: skip


def test_a_phase_with_averaged_weights_ends_and_is_known_as_the_same(tmp_path):
    phase = tiny_config()["phases"]["dense"] | {"max_epochs": 2}
    averaging = {"class_path": "StochasticWeightAveraging", "init_args": {"swa_lrs": 0.01, "swa_epoch_start": 1}}
    config = write_config(tmp_path, phases={"dense": phase | {"callbacks": [averaging]}})
    given = ["--config", str(config), "--run_dir", str(tmp_path / "run")]
    first = Runner(parse_pipeline(given)[0]).run()
    written = (tmp_path / "run/dense/done.json").stat().st_mtime_ns
    assert Runner(parse_pipeline(given)[0]).run() == first
    assert (tmp_path / "run/dense/done.json").stat().st_mtime_ns == written
