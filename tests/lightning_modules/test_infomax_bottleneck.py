"""The plug-in as a phase: what it leaves alone, what its checkpoint holds, one process and two."""

import json
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from callbacks import AttributionMaps, KeepCheckpoints
from datamodules.base import HandfulDataModule
from datamodules.images import Split
from handful.attribution import attribute
from handful.bottleneck import MAP_NAMES, NoiseBottleneck
from handful.errors import UserError
from handful.networks import Classifier, build_classifier
from lightning_modules import Dense, InfoMaxPlugin, Prototypical, load_module, save_module
from pipelines.phases import CompareMaps
from tests.helpers.phases import run_phase

NETWORK = {"backbone": "conv4", "dropout": 0.5, "options": {"width": 8}}
SMALL = {
    "units": 16, "hidden": 16, "places": 16, "bank_size": 64, "statistics_images": 30, "samples": 2, "image_size": 16,
    "local_layer": "backbone.layer1",
}  # fmt: skip


class Colours(HandfulDataModule):
    """Noise with a patch whose colour is the class."""

    class_names = ("reddish", "greenish", "bluish")

    def fingerprint(self):
        return "patches"

    def load_splits(self):
        generator = torch.Generator().manual_seed(0)
        splits = {}
        for split, count in (("train", 41), ("val", 7), ("test", 11)):
            labels = torch.arange(count) % 3
            pixels = 100 + 30 * torch.randn(count, 3, 16, 16, generator=generator)
            pixels[range(count), labels, 4:9, 5:10] += 120
            images = list(pixels.clamp(0, 255).to(torch.uint8))
            splits[split] = Split(images, range(count), labels, [f"{split}/{i}" for i in range(count)])
        return splits


def data() -> Colours:
    return Colours(image_size=16, batch_size=8, eval_batch_size=4, normalisation="imagenet", augmentation="flip")


def trainer(folder: Path, *callbacks: pl.Callback, **options) -> pl.Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    return pl.Trainer(
        **{"accelerator": "cpu", "devices": 1, "max_epochs": 1, "num_sanity_val_steps": 0} | options,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[
            pl.callbacks.ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False),
            *callbacks,
        ],
    )


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    torch.manual_seed(0)
    save_module(Dense(NETWORK, 3, beta=0.0), folder / "best.ckpt")
    return folder


def plugin(dense: Path, **options) -> InfoMaxPlugin:
    torch.manual_seed(1)
    module = InfoMaxPlugin(**SMALL | options)
    module.take({"dense": dense})
    return module


def test_the_base_is_left_alone_and_the_checkpoint_holds_everything(tmp_path, dense) -> None:
    module = plugin(dense)
    run_phase(module, trainer(tmp_path, max_epochs=2), data())
    original = load_module(dense / "best.ckpt").model.state_dict()
    assert all(torch.equal(value, original[name]) for name, value in module.plugin.base.state_dict().items())

    loaded = load_module(tmp_path / "last.ckpt")
    images = torch.stack([data().test_dataset[i][0] for i in range(3)])
    for name, value in module.eval().plugin.maps(images).items():
        assert torch.equal(value, loaded.plugin.maps(images)[name]), name
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(images), load_module(dense / "best.ckpt").model(images))
    assert loaded.plugin.local_statistics.count == 30 * 8 * 8

    row = json.loads((tmp_path / "stages.json").read_text())[tmp_path.name]
    assert {"accuracy", "clean_accuracy", "general_bits", "sufficient_bits", "redundant_bits", "capacity_bits"} < set(
        row
    )
    assert row["redundant_bits"] == pytest.approx(row["general_head_bits"] - row["sufficient_bits"], abs=1e-6)


def test_finetuning_trains_the_base(tmp_path, dense) -> None:
    module = plugin(dense, finetune=True, explain="label")
    run_phase(module, trainer(tmp_path), data())
    original = load_module(dense / "best.ckpt").model.state_dict()
    trained = module.plugin.base.state_dict()
    assert not torch.equal(trained["backbone.layer1.0.weight"], original["backbone.layer1.0.weight"])
    assert torch.equal(trained["backbone.layer1.1.running_mean"], original["backbone.layer1.1.running_mean"])


def test_two_processes_gather_the_statistics_of_one(tmp_path, dense) -> None:
    kept = []
    for name, options in (("one", {}), ("two", {"devices": 2, "strategy": "ddp_fork"})):
        trainer(tmp_path / name, limit_train_batches=1, limit_val_batches=0, **options).fit(plugin(dense), data())
        state = torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"]
        kept.append({key: value for key, value in state.items() if "statistics" in key or "bank" in key})
    assert len(kept[0]) > 10
    assert kept[0].keys() == kept[1].keys()
    for key, value in kept[0].items():
        torch.testing.assert_close(kept[1][key], value, rtol=1e-5, atol=1e-6)


def test_two_processes_measure_what_one_measures(tmp_path, dense) -> None:
    module = plugin(dense)
    run_phase(module, trainer(tmp_path / "one"), data())
    saved = load_module(tmp_path / "one" / "last.ckpt")
    one = trainer(tmp_path / "one").test(saved, data(), verbose=False)[0]
    two = trainer(tmp_path / "two", devices=2, strategy="ddp_fork").test(saved, data(), verbose=False)[0]
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    larger = data()
    larger.eval_batch_size = 11
    other = trainer(tmp_path / "three").test(saved, larger, verbose=False)[0]
    for name, value in one.items():
        assert other[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_a_resumed_training_keeps_its_statistics(tmp_path, dense) -> None:
    module = plugin(dense)
    run_phase(module, trainer(tmp_path), data())
    resumed = plugin(dense, seed=5)  # would choose other images
    run_phase(resumed, trainer(tmp_path, max_epochs=2), data(), tmp_path / "last.ckpt")
    assert torch.equal(resumed.plugin.bank.features, module.plugin.bank.features)
    assert resumed.trainer.current_epoch == 2


def test_the_readout_bottleneck_alone(tmp_path, dense) -> None:
    module = plugin(dense, objective="readout")
    assert type(module.plugin) is NoiseBottleneck
    run_phase(module, trainer(tmp_path), data())
    row = json.loads((tmp_path / "stages.json").read_text())[tmp_path.name]
    assert "sufficient_bits" not in row
    assert row["capacity_bits"] > 0
    loaded = load_module(tmp_path / "last.ckpt")
    assert loaded.plugin.infer.decide[-1].out_channels == 8
    images = torch.stack([data().test_dataset[i][0] for i in range(2)])
    assert attribute(loaded.model, images, method="capacity").map().shape == (2, 16, 16)


def test_every_method_works_on_the_classifier_with_its_plugin(tmp_path, dense) -> None:
    module = plugin(dense)
    run_phase(module, trainer(tmp_path), data())
    model, base = load_module(tmp_path / "last.ckpt").model, load_module(dense / "best.ckpt").model
    assert isinstance(model, Classifier)
    assert len(model.state_dict()) == len(model.plugin.state_dict()), "held once"
    images = torch.stack([data().test_dataset[i][0] for i in range(3)])
    for method in ("cam", "gradcam", "gradient"):
        expected, found = (attribute(network, images, method=method) for network in (base, model))
        assert torch.equal(found.raw, expected.raw), method
        torch.testing.assert_close(found.logits, expected.logits)
    for method in (*MAP_NAMES, "iba"):
        assert attribute(model, images, method=method).map().shape == (3, 16, 16), method


def test_the_attribution_callback_draws_the_maps_and_changes_nothing(tmp_path, dense) -> None:
    draw = AttributionMaps(methods=["sufficient", "redundant", "cam"], images=3, strict=True)
    states = []
    for folder, callbacks in ((tmp_path / "plain", []), (tmp_path / "drawn", [draw, KeepCheckpoints([0, -1])])):
        trainer(folder, *callbacks, max_epochs=2).fit(module := plugin(dense), data())
        states.append(module.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert (tmp_path / "drawn" / "attribution" / "sufficient" / "epoch_001.png").is_file()
    early = load_module(tmp_path / "drawn" / "epoch_000.ckpt").plugin
    late = load_module(tmp_path / "drawn" / "epoch_001.ckpt").plugin
    assert not torch.equal(early.infer.read_global.weight, late.infer.read_global.weight)
    assert torch.equal(early.bank.features, late.bank.features)


def test_networks_are_compared_side_by_side(tmp_path, dense) -> None:
    earlier = {}
    for name, beta3 in (("gentle", 0.01), ("harsh", 1.0)):
        module = plugin(dense, beta3=beta3)
        run_phase(module, trainer(tmp_path / name), data())
        (tmp_path / name / "last.ckpt").rename(tmp_path / name / "best.ckpt")
        earlier[name] = tmp_path / name
    compare = CompareMaps({"first": "gentle", "second": "harsh"}, maps=MAP_NAMES[:3], images=2)
    compare.take(earlier)
    (tmp_path / "compare").mkdir()
    run_phase(compare, trainer(tmp_path / "compare"), data())
    rows = json.loads((tmp_path / "compare" / "comparison.json").read_text())
    assert list(rows) == ["first", "second"]
    stored = json.loads((tmp_path / "gentle" / "stages.json").read_text())["gentle"]
    assert rows["first"] == pytest.approx(stored, rel=1e-6)
    assert (tmp_path / "compare" / "comparison.png").stat().st_size > 1000


def test_bad_input_is_told(dense, tmp_path) -> None:
    with pytest.raises(UserError, match=r"no layer 'backbone\.layer7'"):
        InfoMaxPlugin(local_layer="backbone.layer7").check(build_classifier(NETWORK, 3))
    with pytest.raises(UserError, match="phase named 'dense'"):
        InfoMaxPlugin().take({})
    assert InfoMaxPlugin().weights.beta2 == 1.0
    folder = tmp_path / "few"
    folder.mkdir()
    save_module(Prototypical(NETWORK), folder / "best.ckpt")
    few = InfoMaxPlugin(source="few", **SMALL)
    few.take({"few": folder})
    assert few.head == "gaussian"
    assert few.weights.beta2 == 0.01
