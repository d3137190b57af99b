"""Plug-in, class filters and prototypical networks on the GPU: killed in the middle, resumed to the same bits."""

import pytest
import yaml

from tests.cuda.common import TEST_DEVICE, need_device
from tests.cuda.runs import HIDDEN, assert_same_bits, config_file, finished, pipeline, trained_on
from tests.datamodules.fakes import write_images
from tests.helpers.pipeline import ROOT

need_device(pretence=False)

KILL = {"class_path": "tests.helpers.interrupt.KillAt"}
SMALL_BIRDS = {
    "images_per_class": 8, "val_images_per_class": 3, "test_images_per_class": 5, "image_size": 24, "batch_size": 8,
}  # fmt: skip


def shipped(path):
    return yaml.safe_load((ROOT / "configs" / path).read_text())


def plugin(folder):
    config = shipped("plugin/quickstart.yaml")
    config["data"]["init_args"] |= SMALL_BIRDS | {"n_classes": 3}
    config["phases"]["dense"] |= {"max_epochs": 1}
    plugin = config["phases"]["plugin"]
    plugin["module"]["init_args"] |= {"units": 16, "statistics_images": 20, "image_size": 24, "bank_size": 64}
    plugin["module"]["init_args"] |= {"places": 8, "samples": 2, "hidden": 16}
    plugin |= {"max_epochs": 3, "data": {"batch_size": 8}}
    plugin["callbacks"] = [KILL, {"class_path": "AttributionMaps", "init_args": {
        "methods": ["general", "capacity", "gradcam", "meaningful_perturbation", "smoothgrad"], "images": 2,
        "every_n_epochs": 2, "strict": True, "options": {"meaningful_perturbation": {"iterations": 3}}}}]  # fmt: skip
    keep = {name: config[name] for name in ("network", "data", "phases")}
    return config_file(folder, **keep), "InfoMaxPlugin/1/1"


def filters(folder):
    config = shipped("filters/toy_birds.yaml")
    config["data"]["init_args"] |= SMALL_BIRDS | {"n_classes": 3}
    config["phases"]["dense"] |= {"max_epochs": 2}
    config["phases"]["filters"]["module"]["init_args"] |= {"k1": 0.5, "grid_k1": [1, 0.5, 5], "grid_k2": [1, 5]}
    config["phases"]["retrain"] |= {"max_epochs": 2, "callbacks": [KILL]}
    return config_file(folder, **{name: config[name] for name in ("network", "data", "phases")}), "Retrain/1/1"


def prototypical(folder):
    config = shipped("plugin/cub_protonet.yaml")
    counts = {f"bird{i}": 6 for i in range(12)}
    root = write_images(folder / "birds", {"train": counts, "test": counts}, size=(36, 36))
    config["data"]["init_args"] |= {"root": str(root), "way": 3, "query": 2, "episodes": 6, "image_size": 32}
    config["data"]["init_args"] |= {"eval_batch_size": 8, "fractions": [0.34, 0.33, 0.33]}
    config["network"]["options"] = {"width": 8}
    first, second = config["phases"]["prototypical"], config["phases"]["plugin"]
    first["module"]["init_args"] |= {"way": 3, "query": 2, "val_episodes": 5, "test_episodes": 5, "test_shots": [1]}
    first |= {"max_epochs": 2}
    second["module"]["init_args"] |= {"statistics_images": 12, "image_size": 32, "units": 16, "hidden": 16}
    second["module"]["init_args"] |= {"bank_size": 64, "places": 8, "samples": 2, "components": 4}
    second |= {"max_epochs": 2, "callbacks": [KILL]}
    return config_file(folder, **{name: config[name] for name in ("network", "data", "phases")}), "InfoMaxPlugin/1/2"


@pytest.mark.parametrize("kind", [plugin, filters, prototypical], ids=lambda kind: kind.__name__)
def test_killed_and_resumed_to_the_same_bits_and_read_without_the_gpu(kind, tmp_path):
    config, place = kind(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    pipeline(config, whole)
    first = next(iter(yaml.safe_load(config.read_text())["phases"]))
    assert trained_on(whole, f"{first}/last.ckpt") == TEST_DEVICE
    pipeline(config, broken, killed=True, HANDFUL_KILL=place)
    pipeline(config, broken)
    assert_same_bits(broken, whole)
    if kind is not prototypical:
        finished("report", "--run_dir", whole, **HIDDEN)
