"""The shipped pipeline of the class filters from end to end, on few small toy birds."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image

from handful.errors import UserError
from handful.networks.published import published_weights
from lightning_modules import load_classifier
from pipelines.cli import main
from pipelines.parse import parse_pipeline
from pipelines.runner import Runner
from tests.helpers.pipeline import without_reports

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


@pytest.fixture(scope="module", autouse=True)
def phases_alone():
    with without_reports():
        yield


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


IMAGENET = CONFIG.with_name("imagenet_lite0.yaml")


def as_published(folder, names, *more):
    """The filters of Lite0's own thousand classes, from noise in folders of these names."""
    generator = np.random.default_rng(0)
    for name in names:
        (folder / "images" / name).mkdir(parents=True)
        for number in range(5):
            pixels = generator.integers(0, 255, (64, 64, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")
    options = ["--data.image_size", "64", "--data.cache_dir", str(folder / "cache"), "--wandb.mode", "disabled",
               "--trainer.enable_progress_bar", "false", "--phases.filters.module.images_per_filter", "1",
               "--phases.filters.module.drawn_classes", "1", "--phases.filters.module.grid_k1", "[50]",
               "--phases.filters.module.grid_k2", "[50, 1280]"]  # fmt: skip
    run = folder / "run"
    Runner(parse_pipeline(["--config", str(IMAGENET), "--run_dir", str(run), "--data.root", str(folder / "images"),
                           *options, *more])[0]).run()  # fmt: skip
    return run, json.loads((run / "filters" / "filters.json").read_text())["classes"]


def test_the_thousand_classes_as_they_were_published(tmp_path):
    """The last layer is the published one; classes that the folder has not get the filters of their weights."""
    run, classes = as_published(tmp_path, ["011", "black grouse"])
    model = load_classifier(run / "dense/best.ckpt").model
    network = timm.create_model("tf_efficientnet_lite0")
    state = published_weights("tf_efficientnet_lite0", {})[0]
    assert all(model.backbone.net.state_dict()[name].equal(value) for name, value in state.items())
    network.load_state_dict(state | {"classifier.weight": model.head.linear.weight,
                                     "classifier.bias": model.head.linear.bias}, strict=False)  # fmt: skip
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert network.eval()(images).allclose(model.eval()(images), atol=1e-4)
    assert model.head.linear.weight.std() > 0.01  # fresh ones are smaller
    assert list(classes) == ["goldfinch", "black grouse"]
    filters = torch.load(run / "filters/filters.pt", weights_only=True)["filters"]
    tench = model.head.linear.weight[0].argsort(descending=True)[:50]
    assert set(filters[0].tolist()) == set(tench.tolist())
    assert [path.name for path in (run / "filters/pictures").iterdir()] == ["011.png"]


def test_any_images_by_what_the_network_takes_them_for(tmp_path):
    """No class is known: with all features every prediction stays."""
    run, classes = as_published(
        tmp_path, ["mine", "yours"], "--data.classes", "none", "--phases.filters.module.labels", "predicted"
    )
    rows = list(csv.DictReader((run / "filters/grid.csv").open()))
    assert {row["k2"]: float(row["accuracy"]) for row in rows}["1280"] == 100
    assert 1 <= len(classes) <= 8


def test_a_last_layer_of_other_classes_is_refused(tmp_path):
    with pytest.raises(UserError, match="published_head: the published last layer has 1000 classes, the data 2"):
        as_published(tmp_path, ["a", "b"], "--data.class_path", "ImageFolder")
