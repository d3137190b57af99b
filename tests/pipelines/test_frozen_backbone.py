"""A frozen backbone: features are computed once, kept and found; computed again where they are gone or damaged."""

import json
import os
import shutil
import signal
import zipfile
from collections import Counter

import lightning.pytorch as pl
import pytest
import torch
import yaml

import pipelines.cli  # imported before processes are forked
import pipelines.commands.pipeline
from datamodules.toy_birds import ToyBirds
from handful.errors import UserError
from handful.features import FeatureParts
from handful.networks import build_classifier
from lightning_modules import Dense, Finetune, load_classifier
from pipelines.stored_features import FrozenFeatures
from tests.helpers import forked
from tests.helpers.full_disk import with_full_disk
from tests.helpers.phases import run_phase
from tests.helpers.pipeline import tiny_config, without_reports

NETWORK = {"backbone": "cifar_resnet20", "options": {"width": 4}, "dropout": 0.2}


_WRITE_REPORT = pipelines.commands.pipeline._write_report


@pytest.fixture(scope="module", autouse=True)
def phases_alone():
    with without_reports():
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights to freeze, batch norms with statistics of their own."""
    torch.manual_seed(0)
    model = build_classifier(NETWORK, 3)
    with torch.no_grad():
        model(torch.randn(8, 3, 24, 24))
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(model.state_dict(), path)
    return path


def written(folder, beta=0.0, diversity=False, phases=("dense", "sparsify", "evaluate")):
    """A config with a frozen backbone; its cache lies beside it."""
    config = tiny_config()
    phases = {name: config["phases"][name] for name in phases}
    phases["dense"]["module"]["init_args"] |= {"beta": beta, "train_backbone": False}
    if not diversity:
        del phases["dense"]["callbacks"][0]
    config["data"]["init_args"]["cache_dir"] = str(folder / "cache")
    path = folder / "frozen.yaml"
    path.write_text(yaml.safe_dump(config | {"phases": phases}, sort_keys=False))
    return path


def command(config, run, weights, *more):
    return ["pipeline", "--config", config, "--run_dir", run, "--init_from", weights, *more]


def stages(run):
    return json.loads((run / "results.json").read_text())["stages"]


def state(path):
    return torch.load(path, weights_only=True)["state_dict"]


def stores(folder):
    return sorted(path.parent.name.partition("-")[0] for path in (folder / "cache").glob("*/record.json"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("finished")
    config, run = written(folder), folder / "run"
    ended = forked.run(command(config, run, weights), run)
    assert ended.status == 0, ended.text
    return config, run


def test_the_head_learns_and_the_backbone_stays(finished, weights):
    _, run = finished
    before, after = torch.load(weights), state(run / "dense/best.ckpt")
    for name, value in before.items():
        same = torch.equal(value, after[f"model.{name}"])
        assert same == name.startswith("backbone."), name
    assert set(stages(run)) == {"dense", "sparse"}
    # training and validation pooled, test with maps for diversity@k
    assert stores(run.parent) == ["features", "features", "maps"]


def test_deleted_features_give_the_same_digits(finished, weights):
    config, run = finished
    for record in list((run.parent / "cache").glob("*/record.json")):
        shutil.rmtree(record.parent)
    again = run.parent / "again"
    ended = forked.run(command(config, again, weights), again)
    assert ended.status == 0, ended.text
    assert stages(again) == stages(run)
    for phase in ("dense", "sparsify"):
        for name, value in state(run / phase / "best.ckpt").items():
            assert torch.equal(value, state(again / phase / "best.ckpt")[name]), name


def test_stored_results_are_those_of_the_images(finished):
    """Testing without a pipeline goes through the images; only maps are rounded in the store."""
    config, run = finished
    module = load_classifier(run / "dense/best.ckpt")
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    data = yaml.safe_load(config.read_text())["data"]["init_args"]
    trainer.test(module, datamodule=ToyBirds(**data), verbose=False)
    row, found = stages(run)["dense"], module.test_row()
    assert found["accuracy"] == pytest.approx(row["accuracy"], abs=1e-4)
    for measure in ("loss", "dependence"):
        assert found[measure] == pytest.approx(row[measure], abs=1e-4), measure
    assert found["diversity@5"] == pytest.approx(row["diversity@5"], rel=1e-3)


def test_two_processes_compute_the_features_of_one(finished, weights, tmp_path):
    config, run = finished
    two = tmp_path / "two"
    done = forked.run_ranks(command(config, two, weights, "--data.cache_dir", tmp_path / "cache"), two)
    assert done.status == 0, done.text
    ours, text = run.parent / "cache", done.text
    assert "the head learns from features of the un-augmented images; data.augmentation crop_flip is not used" in text
    assert text.count("features of the 27 un-augmented training images: computed in") == 1
    assert "eval mode" not in text
    kept = [path.parent for path in (tmp_path / "cache").glob("*/record.json")]
    assert len(kept) == 3
    for folder in kept:
        for file in folder.iterdir():
            assert file.read_bytes() == (ours / folder.name / file.name).read_bytes()
    # the same weights on one process: the same digits
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    ended = forked.run(command(config, tmp_path / "one", weights, "--start_at", "sparsify"), tmp_path / "one")
    assert ended.status == 0, ended.text
    assert stages(tmp_path / "one") == stages(tmp_path / "two")


def test_killed_in_training_resumes_to_the_same_bits(finished, weights, monkeypatch):
    """And the features that the first run has kept are found."""
    _, run = finished
    (run.parent / "dense").mkdir()
    config, broken = written(run.parent / "dense", phases=["dense"]), run.parent / "broken"
    again = command(config, broken, weights, "--data.cache_dir", run.parent / "cache")
    kept = {path: path.stat().st_ino for path in (run.parent / "cache").glob("*/record.json")}
    monkeypatch.setenv("HANDFUL_KILL", "Dense/1/2")
    assert forked.run(again, broken).status == -9
    monkeypatch.setenv("HANDFUL_KILL", "")
    ended = forked.run(again, broken)
    assert ended.status == 0, ended.text
    for name, value in state(run / "dense/last.ckpt").items():
        assert torch.equal(value, state(broken / "dense/last.ckpt")[name]), name
    assert {path: path.stat().st_ino for path in (run.parent / "cache").glob("*/record.json")} == kept


def test_killed_while_features_are_computed_the_next_attempt_resumes(weights, tmp_path):
    module, data = load_frozen(weights), birds(tmp_path, images_per_class=40)
    expected = FrozenFeatures(module, data).store("train").features.clone()
    cache = tmp_path / "cache"
    shutil.rmtree(*cache.glob("features-*"))

    def killed(after, seen):
        """Chunks that are there when the process is killed before it writes one more than it may."""
        child = os.fork()
        if child == 0:
            write = FeatureParts.write

            def or_die(self, number, *found):
                seen.append(number)
                if len(seen) > after:
                    os.kill(os.getpid(), signal.SIGKILL)
                write(self, number, *found)

            FeatureParts.write = or_die
            try:
                FrozenFeatures(module, data).store("train")
            finally:
                os._exit(1)  # whatever happens, no second test session goes on from here
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert not list(cache.glob("features-*"))
        return {path.name: path.stat().st_ino for path in cache.glob(".parts-*/*.safetensors")}

    first = killed(2, [])
    assert len(first) == 2
    second = killed(1, [])
    assert len(second) == 3
    assert first.items() <= second.items()
    (file, *_) = cache.glob(".parts-*/000001.safetensors")
    file.write_bytes(file.read_bytes()[:-9])  # a chunk that a dying disk has damaged counts as none
    assert torch.equal(FrozenFeatures(module, data).store("train").features, expected)
    assert not list(cache.glob(".parts-*"))


@pytest.mark.parametrize("damage", ["flipped", "cut", "record", "gone"])
@pytest.mark.parametrize("maps", [False, True])
def test_damaged_features_are_computed_again(weights, tmp_path, damage, maps):
    module, data = load_frozen(weights), birds(tmp_path)
    expected = FrozenFeatures(module, data).store("train", maps).features.clone()
    (record,) = tmp_path.glob("cache/*/record.json")
    file = record if damage == "record" else record.with_name("maps.float16" if maps else "features.float32")
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content if damage == "flipped" else content[:-100])
    if damage == "gone":
        file.unlink()
    with pytest.warns(UserWarning, match="the stored features are ignored and recomputed"):
        store = FrozenFeatures(module, data).store("train", maps)
    assert torch.equal(store.features, expected)
    store.verify()


@pytest.mark.parametrize("backbone", ["test_vit", "test_convnext", "test_resnet", "conv4"])
def test_any_backbone(backbone, tmp_path):
    """Tokens, layers that normalise by image, and batch norms."""
    data, network = birds(tmp_path, image_size=32), {"backbone": backbone, "image_size": 32}
    if backbone == "test_vit":
        network["options"] = {"patch_size": 8}
    torch.manual_seed(0)
    module = Dense(network, 3, train_backbone=False)
    store = FrozenFeatures(module, data).store("test", maps=True)
    images = torch.stack([image for image, _ in data.test_dataset])
    module.eval()
    with torch.no_grad():
        assert torch.equal(store.features, module.model.features(images))
        assert torch.equal(store.maps, module.model.feature_maps(images).half())
    assert store.features.std(0).max() > 0


def test_maps_are_kept_where_somebody_looks_at_them(weights, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.commands.pipeline._write_report", _WRITE_REPORT)
    config, run = written(tmp_path, beta=0.2, diversity=True, phases=["dense"]), tmp_path / "run"
    ended = forked.run(command(config, run, weights), run)
    assert ended.status == 0, ended.text
    # training and validation; the report takes pooled features of the test images
    assert stores(tmp_path) == ["features", "maps", "maps"]
    metrics = (run / "dense/metrics.csv").read_text()
    assert "val/diversity@5" in metrics
    assert "train/diversity_loss" in metrics


def test_other_weights_images_or_sizes_have_other_features(weights, tmp_path):
    module = load_frozen(weights)
    keys = set()

    def key(data, module=module, split="train"):
        FrozenFeatures(module, data).store(split)
        found = {path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith("features-")}
        new = found - keys
        keys.update(found)
        return len(new)

    assert key(birds(tmp_path)) == 1
    assert key(birds(tmp_path)) == 0
    assert key(birds(tmp_path), split="test") == 1
    assert key(birds(tmp_path, seed=1)) == 1
    assert key(birds(tmp_path, image_size=32)) == 1
    assert key(birds(tmp_path, normalisation="imagenet")) == 1
    assert key(birds(tmp_path, augmentation="none", batch_size=3)) == 0
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")  # bf16 on a processor, TF32 on a GPU
        assert key(birds(tmp_path)) == 1
    finally:
        torch.set_float32_matmul_precision(before)
    assert key(birds(tmp_path)) == 0
    with torch.no_grad():
        module.model.head.linear.weight += 1
        assert key(birds(tmp_path), module) == 0
        next(module.model.backbone.buffers())[0] += 1e-3
    assert key(birds(tmp_path), module) == 1


def birds(folder, **changes):
    given = {"n_classes": 3, "images_per_class": 15, "test_images_per_class": 5, "image_size": 24}
    return ToyBirds(**given | changes, cache_dir=str(folder / "cache"))


def load_frozen(weights):
    module = Dense(NETWORK, 3, init_from=str(weights), train_backbone=False)
    module.take({})
    return module


def test_features_are_those_of_the_model_to_the_bit(weights, tmp_path):
    module, data = load_frozen(weights), birds(tmp_path)
    module.train()
    assert not module.model.backbone.training
    assert module.model.head.training
    store = FrozenFeatures(module, data).store("train", maps=True)
    images = torch.stack([image for image, _ in data.plain_train_dataset])
    module.eval()
    with torch.no_grad():
        for chunk in (slice(0, 32), slice(32, 45)):
            maps = module.model.feature_maps(images[chunk])
            assert torch.equal(store.features[chunk], module.model.features(images[chunk]))
            assert torch.equal(store.maps[chunk], maps.half())


def test_without_a_pipeline_the_backbone_is_frozen_too(weights, tmp_path):
    """`fit` by Lightning alone: through the images, and the backbone and its statistics stay."""
    module = load_frozen(weights)
    before = {name: value.clone() for name, value in module.model.backbone.state_dict().items()}
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(module, datamodule=birds(tmp_path))
    after = module.model.backbone.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_bad_input(weights, tmp_path):
    config, run = written(tmp_path), tmp_path / "run"
    fresh = forked.run(["pipeline", "--config", config, "--run_dir", run], run)
    assert fresh.status == 2
    assert "phases.dense: train_backbone is false, but there are no weights to keep; give --init_from" in fresh.text
    assert not run.exists()
    nothing = tiny_config()["phases"] | {"finetune": {"module": {"class_path": "Finetune", "init_args": {
        "train_backbone": False, "train_normalisation": False}}, "max_epochs": 1}}  # fmt: skip
    config.write_text(yaml.safe_dump(tiny_config(phases=nothing)))
    refused = forked.run(["pipeline", "--config", config, "--run_dir", run], run)
    assert refused.status == 2
    assert "phases.finetune: train_backbone and train_normalisation are both false" in refused.text


def test_maps_that_are_too_large_for_the_disk_are_not_kept_unless_they_are_there(weights, tmp_path, monkeypatch):
    """`evaluate` then goes through the images; training with L_div is refused before anything is computed."""
    features = FrozenFeatures(load_frozen(weights), birds(tmp_path))
    assert features.keeps_maps("test")
    features.store("test", maps=True)
    monkeypatch.setattr("datamodules.cache.Cache.free_bytes", lambda self: 1000)
    assert features.keeps_maps("test")
    assert not features.keeps_maps("train")
    with pytest.raises(UserError, match=r"features and maps of 45 images take .* or beta 0, which needs"):
        features.store("train", maps=True)


def test_a_full_disk_is_one_sentence(weights, tmp_path):
    module, data = load_frozen(weights), birds(tmp_path)
    _ = data.splits

    def compute():
        with pytest.raises(UserError, match=r"data.cache_dir: the features of a frozen backbone cannot be kept in .*;"):
            FrozenFeatures(module, data).store("train")

    with_full_disk(compute, size=200)
    assert len(FrozenFeatures(module, data).store("train")) == 45


@pytest.mark.parametrize("trained", [True, False])
def test_the_sparse_stage_of_a_frozen_backbone_finetunes_where_asked(finished, tmp_path, trained):
    """Trained again: all of it, from the images. Frozen: only the normalisation of the sparse layer."""
    config, run = finished
    sparse = load_classifier(run / "sparsify/best.ckpt")
    assert sparse.train_backbone is False
    data = ToyBirds(**yaml.safe_load(config.read_text())["data"]["init_args"])
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, logger=False,
                         enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    tuned = Finetune(NETWORK, 3, train_backbone=trained)
    tuned.take({"sparsify": run / "sparsify"})
    run_phase(tuned, trainer, data)
    before, after = sparse.model.state_dict(), tuned.model.state_dict()
    assert torch.equal(before["backbone.conv1.weight"], after["backbone.conv1.weight"]) == (not trained)
    assert not torch.equal(before["head.mean"], after["head.mean"])
    assert torch.equal(before["head.weight"], after["head.weight"])


def test_birds_on_photographs(real_data, tmp_path):
    """Four species, ImageNet's Lite0 as it is: a dense head and a sparse layer that recognise them."""
    with zipfile.ZipFile(real_data / "cub100.zip") as archive:
        seen: Counter[tuple[str, str]] = Counter()
        for name in sorted(archive.namelist()):
            split, species, *file = name.split("/")
            if file and file[0] and len({s for _, s in seen} | {species}) <= 4 and seen[split, species] < 12:
                seen[split, species] += 1
                archive.extract(name, tmp_path / "photos")
    run = tmp_path / "run"
    sizes = ["--phases.sparsify.module.n_features", "8", "--phases.sparsify.module.features_per_class", "3"]
    config = ["pipeline", "--config", "configs/sldd/photos_frozen.yaml", "--data.root", tmp_path / "photos"]
    weights = real_data / "tf_efficientnet_lite0.pth"
    options = ["--run_dir", run, "--data.cache_dir", tmp_path / "cache", "--network.pretrained", weights]
    options += ["--data.image_size", "128", "--data.val_fraction", "0"]
    ended = forked.run([*config, *options, *sizes, "--trainer.enable_progress_bar", "false"], run)
    assert ended.status == 0, ended.text
    assert stages(run)["dense"]["accuracy"] >= 80
    assert stages(run)["sparse"]["accuracy"] >= 65
    assert stages(run)["sparse"]["n_features"] <= 8
