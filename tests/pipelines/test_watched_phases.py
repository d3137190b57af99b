"""The callbacks of every shipped pipeline: which phases are watched, and runs of those that are hardest to watch."""

import csv
import json

import pytest

from callbacks import AttributionMaps, ClassFilters, Diversity
from lightning_modules import ClassifierModule, InfoMaxPlugin, Prototypical, TrainedModule
from pipelines.build import build_callbacks, phase_class
from pipelines.configs import read_config
from pipelines.parse import parse_pipeline
from pipelines.runner import Runner
from tests.datamodules.fakes import write_images
from tests.helpers.pipeline import ROOT

WATCHED = [Diversity, ClassFilters, AttributionMaps]
BITS = {"general", "sufficient", "redundant"}


def pipelines():
    """Shipped configs that are whole pipelines, not parts of one."""
    for file in sorted(ROOT.glob("configs/**/*.yaml")):
        phases = read_config(file)[1].get("phases") or {}
        if phases and all("module" in phase and "class_path" in phase["module"] for phase in phases.values()):
            yield str(file.relative_to(ROOT))


@pytest.mark.parametrize("path", list(pipelines()))
def test_what_is_trained_is_watched(path):
    for name, phase in read_config(ROOT / path)[1]["phases"].items():
        kind = phase_class(phase["module"], name)
        if not issubclass(kind, TrainedModule) or phase.get("max_epochs", 0) == 0:
            continue
        found = build_callbacks(phase.get("callbacks", []))
        watching = [callback for callback in found if type(callback) in WATCHED]
        if issubclass(kind, ClassifierModule) and path != "configs/filters/last_layer.yaml":  # a change of one phase
            assert [type(callback) for callback in watching] == WATCHED, name
            assert watching[2].methods == ["cam", "integrated_gradients"]
        elif issubclass(kind, InfoMaxPlugin):  # no head is trained: bits instead
            (maps,) = watching
            readout = phase["module"]["init_args"].get("objective") == "readout"
            assert set(maps.methods) >= ({"capacity"} if readout else BITS), name
        else:  # episodes have classes of their own
            assert kind in (Prototypical,) or path == "configs/filters/last_layer.yaml"
            assert not watching
        assert all(callback.images == 8 for callback in watching if isinstance(callback, AttributionMaps))


def test_the_configs_are_found():
    assert len(list(pipelines())) > 30


def run(folder, config, *options):
    given = ["--config", str(ROOT / config), "--run_dir", str(folder), "--loggers", "csv"]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    Runner(parse_pipeline([*given, *quiet, *options])[0]).run()


SMALL = ("--data.images_per_class", "6", "--data.test_images_per_class", "3", "--data.image_size", "24")


def test_a_retrained_head_without_validation_images_has_tables_maps_and_diversity(tmp_path):
    run(
        tmp_path, "configs/filters/toy_birds.yaml", *SMALL, "--data.val_images_per_class", "0",
        "--data.batch_size", "9", "--network.options", "{width: 4}", "--phases.dense.max_epochs", "1",
        "--phases.retrain.max_epochs", "2",
        "--phases.filters.module", json.dumps({"class_path": "FindFilters", "init_args": {"k2": 2, "k1": 2}}),
    )  # fmt: skip
    with (tmp_path / "retrain/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    diversity = [float(row["train/diversity@2"]) for row in rows if row["train/diversity@2"]]
    assert len(diversity) == 2
    assert all(0 < value <= 1 for value in diversity)
    assert len([row for row in rows if row["filters/union"]]) == 2
    assert "filters/noise_on_filters" not in rows[0]
    tables = sorted((tmp_path / "retrain/class_filters").iterdir())
    assert [file.name for file in tables] == ["epoch_000.csv", "epoch_001.csv"]
    # every fifth epoch and the last
    assert {file.name for file in (tmp_path / "retrain/attribution").rglob("*.png")} == {"epoch_001.png"}


def test_a_plug_in_on_episodes_draws_its_bits(tmp_path):
    counts = {f"bird{i}": 5 for i in range(9)}
    photos = write_images(tmp_path / "birds", {"train": counts, "test": counts}, size=(36, 36))
    dense, plugin = "--phases.prototypical.module.", "--phases.plugin.module."
    run(
        tmp_path / "run", "configs/plugin/cub_protonet.yaml", "--network.options", "{width: 4}",
        "--data.root", str(photos), "--data.image_size", "32", "--data.way", "2", "--data.query", "2",
        "--data.episodes", "2", "--data.fractions", "[0.34, 0.33, 0.33]", "--phases.prototypical.max_epochs", "1",
        f"{dense}way", "2", f"{dense}query", "2", f"{dense}val_episodes", "2", f"{dense}test_episodes", "2",
        f"{dense}test_shots", "[1]", "--phases.plugin.max_epochs", "1", f"{plugin}image_size", "32",
        f"{plugin}units", "8", f"{plugin}hidden", "8", f"{plugin}bank_size", "16", f"{plugin}places", "8",
        f"{plugin}components", "2", f"{plugin}samples", "2", f"{plugin}statistics_images", "8",
    )  # fmt: skip
    drawn = {file.parent.name for file in (tmp_path / "run/plugin/attribution").rglob("*.png")}
    assert drawn == {"general", "sufficient", "redundant", "capacity"}
