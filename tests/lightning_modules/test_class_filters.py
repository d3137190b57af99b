"""The phases of the class filters: what they write, against naive computations; on one process and on two."""

import csv
import json
import os

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from datamodules.base import HandfulDataModule
from datamodules.images import Split
from handful.errors import UserError
from handful.networks.decomposed import DecomposedHead
from lightning_modules import Decompose, Dense, Retrain, load_module, save_module
from pipelines.phases import Evaluate, FindFilters
from tests.helpers.phases import run_phase
from tests.helpers.ports import free_port

NETWORK = {"backbone": "cifar_resnet20", "dropout": 0.0}


class Colours(HandfulDataModule):
    """Noise whose mean colour is the class, so that even a random backbone can tell."""

    class_names = ("reddish", "greenish", "bluish")

    def fingerprint(self):
        return "colours"

    def load_splits(self):
        generator = torch.Generator().manual_seed(0)
        splits = {}
        for split, count in (("train", 45), ("val", 15), ("test", 27)):
            labels = torch.arange(count) % 3
            colours = 60 * nn.functional.one_hot(labels) * torch.rand(count, 1, generator=generator).add(0.1)
            pixels = 90 + 40 * torch.randn(count, 3, 16, 16, generator=generator) + colours[:, :, None, None]
            images = list(pixels.clamp(0, 255).to(torch.uint8))
            splits[split] = Split(images, range(count), labels, [f"{split}/{i}" for i in range(count)])
        return splits


@pytest.fixture(scope="module")
def data():
    return Colours(image_size=16, batch_size=8, normalisation="imagenet")


def trainer(folder, **arguments):
    folder.mkdir(exist_ok=True)
    return pl.Trainer(
        **{"accelerator": "cpu", "devices": 1, "max_epochs": 1, "num_sanity_val_steps": 0, **arguments},
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def features_of(module, dataset):
    with torch.no_grad():
        return module.model.features(torch.stack([dataset[i][0] for i in range(len(dataset))]))


@pytest.fixture(scope="module")
def dense(tmp_path_factory, data):
    """A folder with a dense classifier that does better than guessing, and the classifier."""
    folder = tmp_path_factory.mktemp("dense")
    torch.manual_seed(0)
    module = Dense(NETWORK, 3, beta=0.0)
    # a random backbone with running statistics of its own, and the ridge regression of the classes on its features
    for _ in range(20):
        features_of(module, data.plain_train_dataset)
    module.eval()
    features = features_of(module, data.plain_train_dataset)
    targets = nn.functional.one_hot(data.plain_train_dataset.labels).float() - 1 / 3
    spread = features - features.mean(0)
    weight = torch.linalg.solve(spread.T @ spread + 0.1 * torch.eye(64), spread.T @ targets).T
    with torch.no_grad():
        module.model.head.linear.weight.copy_(weight)
        module.model.head.linear.bias.copy_(-weight @ features.mean(0))
    save_module(module, folder / "best.ckpt")
    return folder, module


def find(folder, dense_folder, data, more=None, **arguments):
    module = FindFilters(**{"k1": 4, "k2": 3, "grid_k1": [1, 4, 99], "grid_k2": [2, 30, 64, 65], **arguments})
    module.take({"dense": dense_folder})
    run_phase(module, trainer(folder, **(more or {})), data)
    return torch.load(folder / "filters.pt", weights_only=True)


def one_of_two(rank, port, folder, dense_folder, data):
    """What a launcher would start: the same on each rank."""
    torch.set_num_threads(1)
    place = {"LOCAL_RANK": rank, "RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    os.environ.update({name: str(value) for name, value in (place | group).items()})
    find(folder, dense_folder, data, {"devices": 2, "strategy": "ddp"}, images_per_filter=2)
    torch.distributed.destroy_process_group()


def test_the_filters_are_those_of_a_naive_pass_over_the_plain_training_images(tmp_path, dense, data):
    folder, module = dense
    found = find(tmp_path / "filters", folder, data)
    features = features_of(module, data.plain_train_dataset)
    labels = data.plain_train_dataset.labels
    for c in range(3):
        histogram = [0] * 64
        for row in features[labels == c].tolist():
            for f in sorted(range(64), key=lambda f: (-row[f], f))[:4]:
                histogram[f] += 1
        assert found["filters"][c].tolist() == sorted(range(64), key=lambda f: (-histogram[f], f))[:3]
    told = json.loads((tmp_path / "filters" / "filters.json").read_text())
    assert list(told["classes"]) == list(data.class_names)
    first = told["classes"][data.class_names[0]][0]
    assert first["filter"] == int(found["filters"][0, 0])
    assert first["mean"] == pytest.approx(float(features[labels == 0][:, first["filter"]].mean()), rel=1e-5)
    assert sorted(p.name for p in (tmp_path / "filters" / "pictures").iterdir()) == ["000.png", "001.png", "002.png"]


def test_the_grid_is_a_table_of_test_accuracies(tmp_path, dense, data):
    folder, module = dense
    found = find(tmp_path / "filters", folder, data)
    rows = list(csv.DictReader((tmp_path / "filters" / "grid.csv").open()))
    assert [(row["k1"], row["k2"]) for row in rows] == [(k1, k2) for k1 in "14" for k2 in ("2", "30", "64")]
    assert list(rows[0]) == ["k1", "k2", "accuracy"]
    features, labels = features_of(module, data.test_dataset), data.test_dataset.labels
    head = DecomposedHead.from_dense(*module.model.head.class_weights(), found["filters"][:, :2])
    expected = 100 * (head(features).argmax(1) == labels).double().mean()
    assert float(rows[3]["accuracy"]) == pytest.approx(float(expected), abs=1e-4)
    whole = 100 * (module.model.head(features).argmax(1) == labels).double().mean()
    assert float(rows[2]["accuracy"]) == pytest.approx(float(whole), abs=1e-4)
    assert len({row["accuracy"] for row in rows}) > 2
    assert whole > 50, "guessing gives 33, and a test of guessing proves little"
    noise = json.loads((tmp_path / "filters" / "essentiality.json").read_text())
    assert noise["clean"] == pytest.approx(float(whole), abs=1e-9)


def test_two_processes_find_what_one_finds(tmp_path, dense, data):
    folder, _ = dense
    one = find(tmp_path / "one", folder, data, images_per_filter=2)
    port = free_port()
    (tmp_path / "two").mkdir()
    torch.multiprocessing.start_processes(
        one_of_two, (port, tmp_path / "two", folder, data), nprocs=2, start_method="fork"
    )
    two = torch.load(tmp_path / "two" / "filters.pt", weights_only=True)
    assert torch.equal(one["filters"], two["filters"])
    assert torch.equal(one["statistics"]["counts"], two["statistics"]["counts"])
    for name in ("grid.csv", "essentiality.json", "pictures/001.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def decomposed_folder(tmp_path, dense, data):
    find(tmp_path / "filters", dense[0], data, images_per_filter=0)
    module = Decompose(NETWORK, 3)
    module.take({"dense": dense[0], "filters": tmp_path / "filters"})
    (tmp_path / "decompose").mkdir()
    save_module(module, tmp_path / "decompose" / "best.ckpt")
    return tmp_path / "decompose"


def test_decomposing_keeps_the_backbone_and_the_chosen_weights(tmp_path, dense, data):
    folder = decomposed_folder(tmp_path, dense, data)
    module = load_module(folder / "best.ckpt")
    filters = torch.load(tmp_path / "filters" / "filters.pt", weights_only=True)["filters"]
    weight, bias = dense[1].model.head.class_weights()
    assert torch.equal(module.model.head.weight, weight.gather(1, filters))
    assert torch.equal(module.model.head.bias, bias)
    for name, value in dense[1].model.backbone.state_dict().items():
        assert torch.equal(module.model.backbone.state_dict()[name], value), name
    assert not (tmp_path / "filters" / "pictures").exists()


@pytest.mark.parametrize("trained", ["network", "last_layer"])
def test_retraining_trains_what_it_says(tmp_path, dense, data, trained):
    folder = decomposed_folder(tmp_path, dense, data)
    module = Retrain(NETWORK, 3, trained=trained)
    module.take({"decompose": folder})
    before = {k: v.clone() for k, v in module.model.state_dict().items()}
    run_phase(module, trainer(tmp_path / "retrain"), data)
    after = module.model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert {"head.weight", "head.bias"} <= changed
    assert "head.filters" not in changed
    backbone = {k for k in changed if k.startswith("backbone.")}
    if trained == "last_layer":
        assert not backbone, "parameters and running statistics stay"
    else:
        assert "backbone.bn1.running_mean" in backbone
        assert "backbone.conv1.weight" in backbone
    save_module(module, tmp_path / "again.ckpt")
    again = load_module(tmp_path / "again.ckpt")
    assert isinstance(again, Retrain)
    assert again.trained == trained
    images = torch.stack([data.test_dataset[i][0] for i in range(5)])
    assert torch.equal(again.model(images), module.eval().model(images))


def test_every_stage_is_evaluated(tmp_path, dense, data):
    folder = decomposed_folder(tmp_path, dense, data)
    evaluate = Evaluate({"dense": "dense", "decomposed": "decompose"})
    evaluate.take({"dense": dense[0], "decompose": folder})
    run_phase(evaluate, trainer(tmp_path / "evaluate"), data)
    rows = json.loads((tmp_path / "evaluate" / "stages.json").read_text())
    assert rows["dense"]["features_per_class"] == 64
    assert rows["decomposed"]["features_per_class"] == 3
    features = features_of(dense[1], data.test_dataset)
    head = load_module(folder / "best.ckpt").model.head
    expected = 100 * (head(features).argmax(1) == data.test_dataset.labels).double().mean()
    assert rows["decomposed"]["accuracy"] == pytest.approx(float(expected), abs=1e-6)
    assert rows["decomposed"]["n_features"] == head.n_features


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"k1": 65}, "k1 must be"), ({"k2": 65}, "k2 must lie in 1…64"), ({"k1": 2.5}, "k1 must be")],
)
def test_values_that_cannot_be_are_refused_before_anything_runs(dense, arguments, message):
    with pytest.raises(UserError, match=message):
        FindFilters(**arguments).check(dense[1].model)


def test_missing_parts_are_named(tmp_path, dense):
    with pytest.raises(UserError, match="'filters' left no filters"):
        Decompose(NETWORK, 3).take({"dense": dense[0], "filters": tmp_path})
    with pytest.raises(UserError, match="holds no decomposed classifier, but Dense"):
        Retrain(NETWORK, 3).take({"decompose": dense[0]})
