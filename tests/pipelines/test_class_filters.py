"""The shipped pipeline of the class filters from end to end, on few small toy birds."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from pipelines.cli import main

CONFIG = Path(__file__).parents[2] / "configs" / "filters" / "toy_birds.yaml"
OPTIONS = {
    "data.n_classes": 3,
    "data.images_per_class": 6,
    "data.val_images_per_class": 2,
    "data.test_images_per_class": 5,
    "data.image_size": 24,
    "data.batch_size": 8,
    "phases.dense.max_epochs": 2,
    "phases.retrain.max_epochs": 1,
    "trainer.accelerator": "cpu",
    "trainer.enable_progress_bar": False,
    "wandb.mode": "disabled",
}
SMALL = [f"--{name}={value}" for name, value in OPTIONS.items()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    main(["pipeline", "--config", str(CONFIG), "--run_dir", str(folder), *SMALL])
    return folder


def test_all_phases_run_and_all_stages_are_told(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert list(config["phases"]) == ["dense", "filters", "decompose", "retrain", "evaluate"]
    stages = json.loads((run / "results.json").read_text())["stages"]
    assert list(stages) == ["dense", "decomposed", "retrained"]
    assert [stage["features_per_class"] for stage in stages.values()] == [64, 5, 5]
    assert stages["decomposed"]["n_features"] == stages["retrained"]["n_features"] <= 15


def test_the_grid_agrees_with_the_stages(run):
    rows = list(csv.DictReader((run / "filters" / "grid.csv").open()))
    assert list(rows[0]) == ["k1", "k2", "accuracy"]
    cells = {(row["k1"], row["k2"]): float(row["accuracy"]) for row in rows}
    stages = json.loads((run / "results.json").read_text())["stages"]
    assert cells["5", "5"] == stages["decomposed"]["accuracy"]
    assert {cells[k1, "64"] for k1 in ("1", "3", "5", "10", "20")} == {stages["dense"]["accuracy"]}
    assert (run / "filters" / "grid.png").stat().st_size > 1000


def test_the_callback_left_a_table_an_epoch(run):
    tables = sorted(p.name for p in (run / "dense" / "class_filters").iterdir())
    assert tables == ["epoch_000.csv", "epoch_001.csv"]
    metrics = (run / "dense" / "metrics.csv").read_text()
    assert "filters/overlap" in metrics
    assert "filters/noise_on_filters" in metrics


def test_the_last_layer_alone_starts_from_what_is_finished(run, capsys):
    last_layer = str(CONFIG.with_name("last_layer.yaml"))
    before = {p: p.stat().st_mtime_ns for name in ("dense", "filters", "decompose") for p in (run / name).rglob("*.*")}
    arguments = ["--config", str(CONFIG), "--config", last_layer, "--run_dir", str(run), "--start_at", "retrain"]
    main(["pipeline", *arguments, *SMALL])
    assert {p: p.stat().st_mtime_ns for p in before} == before
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["phases"]["retrain"]["module"]["init_args"]["trained"] == "last_layer"


def test_too_many_filters_are_refused_before_anything_is_trained(tmp_path, capsys):
    run_dir = str(tmp_path / "run")
    with pytest.raises(SystemExit) as stop:
        main(["pipeline", "--config", str(CONFIG), "--run_dir", run_dir, *SMALL, "--phases.filters.module.k2=65"])
    assert stop.value.code == 2
    assert "phases.filters: k2 must lie in 1…64" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
