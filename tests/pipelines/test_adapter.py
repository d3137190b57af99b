"""An adapter on a frozen backbone: maps are stored once, adapter and head learn from them, under every kind of head."""

import json

import pytest
import torch
import yaml

import pipelines.cli  # noqa: F401  imported before processes are forked
from datamodules.toy_birds import ToyBirds
from handful.networks import build_classifier
from lightning_modules import load_classifier
from pipelines.stored_features import features_of
from tests.helpers import forked
from tests.helpers.pipeline import tiny_config, without_reports

#: DINOv2's small transformer with registers, made smaller still.
VIT = {
    "backbone": "vit_small_patch14_reg4_dinov2", "image_size": 28, "dropout": 0.0,
    "options": {"embed_dim": 24, "depth": 1, "num_heads": 2}, "adapter": {"features": 12, "hidden": 16},
}  # fmt: skip
FINETUNE = {"train_backbone": False, "beta": 0.1}


@pytest.fixture(scope="module", autouse=True)
def phases_alone():
    with without_reports():
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of the backbone alone, as foundation models are published."""
    torch.manual_seed(0)
    model = build_classifier({name: value for name, value in VIT.items() if name != "adapter"}, 3)
    path = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.save(model.backbone.net.state_dict(), path)
    return path


def phase(name, **arguments):
    return {"module": {"class_path": name, "init_args": arguments}}


def heads():
    """Kind of head → its phases."""
    assign = {"n_features": 5, "features_per_class": 2, "locality": False}
    return {
        "sldd": {"sparsify": phase("Sparsify", n_features=5, features_per_class=2)},
        "qsenn": {"sparsify": phase("Sparsify", n_features=5, features_per_class=2, source="dense", cut="ternary")},
        "qpm": {"sparsify": phase("Assign", **assign)},
        "chiqpm": {"sparsify": phase("Assign", **assign, relu=True, rho=0.4)},
    }


def written(folder, kind):
    config = tiny_config(network=VIT)
    config["data"]["init_args"] |= {"image_size": 28, "cache_dir": str(folder.parent / "cache")}
    dense = config["phases"]["dense"]
    dense["module"]["init_args"] |= {"train_backbone": False, "beta": 0.1}
    finetune = phase("Finetune", source="sparsify", **FINETUNE) | {"max_epochs": 2}
    evaluate = phase("Evaluate", stages={"dense": "dense", kind: "sparsify", "finetuned": "finetune"})
    config["phases"] = {"dense": dense, **heads()[kind], "finetune": finetune, "evaluate": evaluate}
    path = folder / f"{kind}.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def sldd(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("runs") / "sldd"
    folder.mkdir()
    ended = forked.run(command(written(folder, "sldd"), folder / "run", weights), folder / "run")
    assert ended.status == 0, ended.text
    return folder / "run"


def command(config, run, weights, *more):
    return ["pipeline", "--config", config, "--run_dir", run, "--init_from", weights, *more]


def state(run, name):
    return torch.load(run / name / "best.ckpt", weights_only=True)["state_dict"]


def test_the_backbone_stays_and_adapter_and_head_learn(sldd, weights):
    published = torch.load(weights, weights_only=True)
    dense, sparse, finetuned = (state(sldd, name) for name in ("dense", "sparsify", "finetune"))
    for name, value in published.items():
        if f"model.backbone.inner.net.{name}" in finetuned:
            assert finetuned[f"model.backbone.inner.net.{name}"].equal(value), name
    adapter = [name for name in dense if ".adapter." in name]
    assert all(dense[name].equal(sparse[name]) for name in adapter)
    assert any(not sparse[name].equal(finetuned[name]) for name in adapter)
    assert "train/diversity_loss" in (sldd / "dense/metrics.csv").read_text()
    # the backbone's maps of the three splits, once for all phases
    kept = [path.parent.name.partition("-")[0] for path in (sldd.parent.parent / "cache").glob("*/record.json")]
    assert sorted(kept) == ["maps", "maps", "maps"]


@pytest.mark.parametrize("name", ["dense", "finetune"])
def test_features_of_stored_maps_are_those_of_the_images(sldd, name):
    """To the digits of a batch of another size."""
    config = yaml.safe_load((sldd / "config.yaml").read_text())
    data = ToyBirds(**config["data"]["init_args"])
    module = load_classifier(sldd / name / "best.ckpt").eval()
    features, labels = features_of(module, module.model, data, "test")
    images = torch.stack([image for image, _ in data.test_dataset])
    with torch.no_grad():
        assert module.model.features(images).allclose(features, atol=1e-5)
    stages = json.loads((sldd / "results.json").read_text())["stages"]
    with torch.no_grad():
        right = (module.model(images).argmax(dim=1) == labels).double().mean()
    assert stages["finetuned" if name == "finetune" else "dense"]["accuracy"] == pytest.approx(100 * float(right))


@pytest.mark.parametrize("kind", ["qsenn", "qpm", "chiqpm"])
def test_every_head_stands_on_the_same_adapter(sldd, weights, kind):
    """The dense phase is taken from the first run, the stored maps from the cache."""
    folder = sldd.parent.parent / kind
    folder.mkdir()
    run = folder / "run"
    kept = {path: path.stat().st_ino for path in (folder.parent / "cache").glob("*/record.json")}
    ended = forked.run(command(written(folder, kind), run, weights, "--phases_from", sldd), run)
    assert ended.status == 0, ended.text
    assert (run / "dense/done.json").read_bytes() == (sldd / "dense/done.json").read_bytes()
    assert {path: path.stat().st_ino for path in (folder.parent / "cache").glob("*/record.json")} == kept
    stages = json.loads((run / "results.json").read_text())["stages"]
    assert list(stages) == ["dense", kind, "finetuned"]
    if kind != "chiqpm":
        return
    for arguments in (["evaluate", "--measures", "sid,alignment"], ["evaluate", "--conformal", "0.6"], ["report"]):
        ended = forked.run([arguments[0], "--run_dir", run, *arguments[1:]], run)
        assert ended.status == 0, ended.text


def test_killed_in_training_resumes_to_the_same_bits(sldd, weights, monkeypatch):
    folder = sldd.parent.parent / "killed"
    folder.mkdir()
    again = command(written(folder, "sldd"), folder / "run", weights)
    monkeypatch.setenv("HANDFUL_KILL", "Dense/1/2")
    assert forked.run(again, folder / "run").status == -9
    monkeypatch.setenv("HANDFUL_KILL", "")
    ended = forked.run(again, folder / "run")
    assert ended.status == 0, ended.text
    for name, value in state(sldd, "finetune").items():
        assert value.equal(state(folder / "run", "finetune")[name]), name
