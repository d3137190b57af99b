"""The maps of every epoch: no trace in training, the same arrays on one process and two, failures that only tell."""

import random

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from torch import nn
from torch.nn import functional

from callbacks import AttributionMaps, attribution_maps
from callbacks.attribution_maps import _by_class
from datamodules.toy_birds import ToyBirds
from handful.attribution import attribute, contributions, register
from handful.attribution.registry import _METHODS
from handful.errors import UserError
from handful.networks.heads import SparseHead
from lightning_modules import Dense
from pipelines.config import WandbConfig
from pipelines.loggers import finish_wandb, wandb_logger
from tests.helpers.logged import tensorboard_kept, wandb_kept

NETWORK = {"backbone": "cifar_resnet20", "dropout": 0.4}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def birds(cache):
    return ToyBirds(
        n_classes=3,
        images_per_class=6,
        val_images_per_class=5,
        test_images_per_class=2,
        image_size=16,
        batch_size=4,
        cache_dir=cache,
    )


def trainer(folder, *callbacks, **arguments):
    return pl.Trainer(
        **{
            "accelerator": "cpu", "devices": 1, "max_epochs": 2, "num_sanity_val_steps": 0, "logger": False,
            "enable_checkpointing": False, **arguments,
        },
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )  # fmt: skip


def dense():
    torch.manual_seed(0)
    return Dense(NETWORK, 3, beta=0.0)


def sparse():
    module = dense()
    head = SparseHead(64, 3, 4)
    weight = torch.tensor([[1.0, 0, 2, 0], [0, 1, 0, 1], [1, 0, 0, -1]])
    head.fill(torch.tensor([3, 10, 20, 40]), torch.zeros(4), torch.ones(4), weight, torch.zeros(3))
    module.model.head = head
    return module


def arrays(folder, name="attribution", epoch=0):
    return dict(np.load(folder / name / f"epoch_{epoch:03d}.npz"))


def everything(module):
    """All that a callback could disturb."""
    return {
        "state": {name: value.clone() for name, value in module.state_dict().items()},
        "training": [part.training for part in module.modules()],
        "required": [p.requires_grad for p in module.parameters()],
        "grads": [p.grad for p in module.parameters()],
        "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()],
        "random": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),  # noqa: NPY002  the global state is what must stay
    }


class Watched(AttributionMaps):
    """Compares all that could be disturbed before and after."""

    def _draw(self, trainer, pl_module, folder, loader, logs=True):
        before = everything(pl_module)
        super()._draw(trainer, pl_module, folder, loader, logs)
        after = everything(pl_module)
        assert before["state"].keys() == after["state"].keys()
        assert all(torch.equal(value, after["state"][name]) for name, value in before["state"].items())
        for key in ("training", "required", "hooks"):
            assert before[key] == after[key]
        assert all(a is b for a, b in zip(before["grads"], after["grads"], strict=True))
        assert torch.equal(before["random"], after["random"])
        assert (before["numpy"] == after["numpy"]).all()
        self.watched = getattr(self, "watched", 0) + 1


EVERY = ["cam", "gradcam", "gradient", "smoothgrad", "integrated_gradients", "guided_backprop", "occlusion", "lime"]
QUICK = {
    "smoothgrad": {"samples": 2},
    "integrated_gradients": {"steps": 2},
    "lime": {"samples": 12, "n_segments": 6, "segments": "grid"},
    "occlusion": {"window": 8},
}


def test_training_is_bit_by_bit_the_same_with_and_without(cache, tmp_path):
    weights = []
    for name, callbacks in (("without", []), ("with", [Watched(EVERY, 5, options=QUICK)])):
        module = dense()
        pl.seed_everything(3, verbose=False)
        trainer(tmp_path / name, *callbacks).fit(module, birds(cache))
        weights.append(module.state_dict())
        assert not callbacks or callbacks[0].watched == 2
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_files_hold_what_attribute_gives(cache, tmp_path):
    module, data = dense().eval(), birds(cache)
    callback = AttributionMaps(["cam", "integrated_gradients"], [14, 2, 7], options=QUICK)
    trainer(tmp_path, callback).validate(module, data, verbose=False)
    found = arrays(tmp_path)
    assert found["places"].tolist() == [14, 2, 7]
    images = torch.stack([data.val_dataset[place][0] for place in (14, 2, 7)])
    for method in ("cam", "integrated_gradients"):
        expected = attribute(module.model, images, method=method, **QUICK.get(method, {}))
        for name in ("raw", "scores", "probabilities", "completeness"):
            np.testing.assert_allclose(found[f"{method}/{name}"], getattr(expected, name), rtol=1e-4, atol=1e-5)
        assert found[f"{method}/raw"].dtype == np.float32
        with Image.open(tmp_path / "attribution" / method / "epoch_000.png") as sheet:
            assert min(sheet.size) > 100
    assert found["labels"].tolist() == [data.val_dataset[place][1] for place in (14, 2, 7)]
    assert not any(name.startswith("features") for name in found)  # a dense head weighs them all


def test_seeds_ids_and_normalisation_reach_the_methods(cache, tmp_path):
    module, data, places = dense().eval(), birds(cache), [14, 2, 7, 1, 0, 9]
    options = {"smoothgrad": {"samples": 2}, "integrated_gradients": {"steps": 2, "baseline": "black"}}
    callback = AttributionMaps(list(options), places, options=options, seed=5, strict=True)
    trainer(tmp_path, callback).validate(module, data, verbose=False)
    images = torch.stack([data.val_dataset[place][0] for place in places])
    for method, more in options.items():
        expected = attribute(
            module.model, images, method=method, seed=5, image_ids=places, normalisation=(data.mean, data.std), **more
        )
        np.testing.assert_allclose(arrays(tmp_path)[f"{method}/raw"], expected.raw, rtol=1e-3, atol=1e-5)


@pytest.fixture
def drawn(monkeypatch):
    """What the sheets are given, by the sheet's name."""
    given = {}
    for name in ("method_sheet", "features_sheet"):

        def keep(*arguments, name=name):
            given[name] = arguments
            return Image.new("RGB", (4, 4))

        monkeypatch.setattr(attribution_maps, name, keep)
    return given


def test_sheets_show_the_images_as_the_eye_sees_them_with_their_labels(cache, tmp_path, drawn):
    data, places = birds(cache), [14, 2, 7, 1, 0, 9]
    module = sparse().eval()
    trainer(tmp_path, AttributionMaps(["cam"], places, features=1)).validate(module, data, verbose=False)
    items = [data.val_dataset[place] for place in places]
    images = torch.stack([image for image, _ in items])
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (data.mean, data.std))
    titles = [f"{place}: {data.class_names[label]}" for place, (_, label) in zip(places, items, strict=True)]
    for seen, _, names, told, *_ in drawn.values():
        torch.testing.assert_close(seen, images * std + mean, rtol=0, atol=1e-5)
        assert (list(names), told) == (data.class_names, titles)
    assert len(set(titles)) == 6
    expected = contributions(module.model, images)
    torch.testing.assert_close(drawn["features_sheet"][1].values, expected.values, rtol=1e-4, atol=1e-5)
    assert drawn["features_sheet"][4] == 1


@pytest.mark.parametrize("choose", ["classes", "worst"])
def test_one_process_and_two_write_identical_arrays(cache, tmp_path, choose):
    methods = ["cam", "gradcam", "gradient", "smoothgrad", "lime"]
    written = []
    for devices in (1, 2):
        callback = AttributionMaps(methods, 10, choose, options=QUICK)
        folder = tmp_path / str(devices)
        arguments = {"devices": 2, "strategy": "ddp_fork"} if devices == 2 else {}
        trainer(folder, callback, **arguments).validate(sparse().eval(), birds(cache), verbose=False)
        written.append(arrays(folder))
    assert written[0].keys() == written[1].keys()
    assert len(written[0]["places"]) == 10
    for name, values in written[0].items():
        np.testing.assert_array_equal(values, written[1][name], err_msg=name)


def test_training_on_two_processes_writes_every_epoch(cache, tmp_path):
    callback = Watched(["gradcam"], 6)
    trainer(tmp_path, callback, devices=2, strategy="ddp_fork").fit(dense(), birds(cache))
    assert {path.name for path in (tmp_path / "attribution").glob("*.npz")} == {"epoch_000.npz", "epoch_001.npz"}


def test_validate_and_test_run_in_inference_mode(cache, tmp_path):
    callback = Watched(EVERY, 9, target="label", options=QUICK, strict=True)
    run = trainer(tmp_path, callback)
    run.validate(dense(), birds(cache), verbose=False)
    run.test(dense(), birds(cache), verbose=False)
    assert callback.watched == 2
    found = arrays(tmp_path, "attribution_test")
    assert max(found["places"]) < 6 <= max(arrays(tmp_path)["places"])
    assert found["gradient/targets"].tolist() == found["labels"].tolist()


def test_a_compiled_backbone(cache, tmp_path):
    module = dense().eval()
    module.model.backbone.compile(backend="eager")
    trainer(tmp_path, AttributionMaps(["gradcam"], 3, strict=True, options={"gradcam": {"layer": "backbone.layer2"}})
            ).validate(module, birds(cache), verbose=False)  # fmt: skip
    torch.compiler.reset()
    plain = tmp_path / "plain"
    trainer(plain, AttributionMaps(["gradcam"], 3, options={"gradcam": {"layer": "backbone.layer2"}})).validate(
        dense().eval(), birds(cache), verbose=False
    )
    np.testing.assert_array_equal(arrays(tmp_path)["gradcam/raw"], arrays(plain)["gradcam/raw"])


@pytest.fixture
def failing():
    @register("test_failing")
    def compute(context):
        raise RuntimeError("no map today")

    yield "test_failing"
    _METHODS.pop("test_failing")


def test_a_failing_map_is_logged_and_training_continues(cache, tmp_path, failing):
    callback = AttributionMaps([failing, "gradient"], 5)
    run = trainer(tmp_path, callback, max_epochs=1)
    with pytest.warns(UserWarning, match="test_failing failed .*no map today"):
        run.fit(dense(), birds(cache))
    assert run.current_epoch == 1
    found = arrays(tmp_path)
    assert "gradient/raw" in found
    assert not any(name.startswith(failing) for name in found)


def test_strict_stops(cache, tmp_path, failing):
    with pytest.raises(UserError, match="no map today"):
        trainer(tmp_path, AttributionMaps([failing], 5, strict=True)).fit(dense(), birds(cache))


def test_pictures_that_cannot_be_written_are_reported_or_stop(cache, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(attribution_maps, "method_sheet", full)
    with pytest.warns(UserWarning, match="the picture of gradient was skipped.*OSError: no space left"):
        trainer(tmp_path, AttributionMaps(["gradient"], 2)).validate(dense(), birds(cache), verbose=False)
    with pytest.raises(UserError, match="could not be written: gradient; the warnings say why"):
        trainer(tmp_path, AttributionMaps(["gradient"], 2, strict=True)).validate(dense(), birds(cache), verbose=False)


def test_images_that_cannot_be_fetched_are_reported_and_nothing_is_written(cache, tmp_path):
    class Gone(AttributionMaps):
        def _items(self, folder, dataset):
            raise OSError("disk gone")

    with pytest.warns(UserWarning, match="gradient failed .*disk gone"):
        trainer(tmp_path, Gone(["gradient"], 2)).validate(dense(), birds(cache), verbose=False)
    assert not (tmp_path / "attribution").exists()
    with pytest.raises((RuntimeError, UserError), match="disk gone"):
        trainer(tmp_path, Gone(["gradient"], 2, strict=True)).validate(dense(), birds(cache), verbose=False)


def test_the_sanity_check_is_neither_drawn_nor_counted(cache, tmp_path):
    module, data = dense(), birds(cache)
    callback = Watched(["gradient"], 4, "worst")
    trainer(tmp_path, callback, max_epochs=1, num_sanity_val_steps=2).fit(module, data)
    assert callback.watched == 1
    images, labels = zip(*(data.val_dataset[i] for i in range(15)), strict=True)
    with torch.no_grad():
        losses = functional.cross_entropy(module.eval()(torch.stack(images)), torch.tensor(labels), reduction="none")
    assert callback.places["attribution"] == losses.topk(4).indices.tolist()


def test_epochs_between_and_the_sanity_check(cache, tmp_path):
    callback = Watched(["gradient"], 2, every_n_epochs=2)
    run = trainer(tmp_path, callback, max_epochs=3, num_sanity_val_steps=1, logger=CSVLogger(tmp_path))
    run.fit(dense(), birds(cache))
    assert callback.watched == 2  # every second epoch, and the last
    assert sorted(path.name for path in (tmp_path / "attribution").glob("*.npz")) == ["epoch_001.npz", "epoch_002.npz"]
    assert 0 < run.callback_metrics["attribution/seconds"] < 10


class StopAfter(pl.Callback):
    """Ends training as `EarlyStopping` does."""

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch == 1


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("val", [True, False])
def test_the_last_epoch_of_a_training_that_stops_early_is_drawn(cache, tmp_path, val, averaged):
    """As if it had been the last of `max_epochs`, with the weights that validation sees."""
    kept = {}
    for name, ends, epochs in (("stops", [StopAfter()], 9), ("whole", [], 2)):
        average = [EMAWeightAveraging(decay=0.5)] if averaged else []
        callback = AttributionMaps(["gradient"], [0, 4], every_n_epochs=5)
        data = birds(cache)
        if not val:
            data.splits.pop("val")
        run = trainer(tmp_path / name, *ends, callback, *average, max_epochs=epochs)
        pl.seed_everything(0)
        run.fit(dense(), data)
        (path,) = (tmp_path / name / "attribution").glob("*.npz")
        assert path.name == "epoch_001.npz"
        kept[name] = np.load(path)["gradient/raw"]
        assert run.current_epoch == 2
    assert (kept["stops"] == kept["whole"]).all()


def test_images_are_spread_over_classes():
    assert _by_class(torch.tensor([0, 0, 0, 1, 1, 2, 0]), 5) == [0, 3, 5, 1, 4]
    assert _by_class(torch.tensor([0, 1]), 9) == [0, 1]


def test_the_worst_images_are_those_of_highest_loss_and_stay(cache, tmp_path):
    module, data = dense().eval(), birds(cache)
    callback = AttributionMaps(["gradient"], 4, "worst")
    run = trainer(tmp_path, callback)
    run.validate(module, data, verbose=False)
    images, labels = zip(*(data.val_dataset[i] for i in range(15)), strict=True)
    with torch.no_grad():
        losses = functional.cross_entropy(module(torch.stack(images)), torch.tensor(labels), reduction="none")
    assert callback.places["attribution"] == losses.topk(4).indices.tolist()
    run.test(module, data, verbose=False)  # has worst images of its own
    images, labels = zip(*(data.test_dataset[i] for i in range(6)), strict=True)
    with torch.no_grad():
        losses = functional.cross_entropy(module(torch.stack(images)), torch.tensor(labels), reduction="none")
    assert callback.places["attribution_test"] == losses.topk(4).indices.tolist()
    assert arrays(tmp_path, "attribution_test")["labels"].tolist() == [
        labels[place] for place in callback.places["attribution_test"]
    ]
    resumed = AttributionMaps(["gradient"], 4, "worst")
    resumed.load_state_dict(callback.state_dict())
    trainer(tmp_path / "resumed", resumed).fit(dense(), data)
    assert resumed.places == callback.places


def test_a_sparse_head_has_its_features_drawn(cache, tmp_path):
    module, data = sparse().eval(), birds(cache)
    trainer(tmp_path, AttributionMaps(["cam"], 3, strict=True)).validate(module, data, verbose=False)
    found = arrays(tmp_path)
    _, bias = module.model.head.class_weights()
    total = found["features/values"].sum(1) + bias.detach()[found["features/classes"]].numpy()
    np.testing.assert_allclose(total, found["cam/scores"], rtol=1e-4, atol=1e-5)
    assert (tmp_path / "attribution" / "features" / "epoch_000.png").is_file()


def test_real_loggers_keep_every_sheet_of_every_epoch(cache, tmp_path):
    dashboard = wandb_logger(WandbConfig(mode="offline"), "run", "dense", tmp_path)
    run = trainer(
        tmp_path, AttributionMaps(["cam", "gradient"], 2), logger=[dashboard, TensorBoardLogger(tmp_path, "board")]
    )
    run.fit(sparse(), birds(cache))
    finish_wandb()
    for kept in (wandb_kept(tmp_path), tensorboard_kept(tmp_path / "board")):
        for name in ("cam", "gradient", "features"):
            for epoch, one in enumerate(kept[f"attribution/{name}"]):
                assert one.step == 5 * (epoch + 1) - 1  # 18 images in batches of 4
                with Image.open(tmp_path / f"attribution/{name}/epoch_{epoch:03d}.png") as saved:
                    assert (np.asarray(one.content) == np.asarray(saved.convert("RGB"))).all()
            assert len(kept[f"attribution/{name}"]) == 2
    assert arrays(tmp_path, epoch=1).keys() >= {"cam/raw", "gradient/raw", "features/values"}


def test_a_module_and_data_of_another_kind(tmp_path):
    class Plain(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))

        def forward(self, images):
            return self.net(images)

        def validation_step(self, batch, batch_idx):
            return None

    data = [(torch.randn(3, 8, 8), i % 2) for i in range(6)]
    run = trainer(tmp_path, AttributionMaps(["gradient", "gradcam"], 4, strict=True))
    run.validate(Plain(), torch.utils.data.DataLoader(data, 2), verbose=False)
    assert arrays(tmp_path)["gradcam/raw"].shape == (4, 6, 6)
    assert arrays(tmp_path)["places"].tolist() == [0, 1, 3, 4]  # without labels, spread over the set


def test_of_several_loaders_the_first_is_drawn(tmp_path):
    class Plain(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))

        def forward(self, images):
            return self.net(images)

        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            return None

    loaders = [torch.utils.data.DataLoader([(torch.rand(3, 2, 2), label)] * 2) for label in (0, 1)]
    trainer(tmp_path, AttributionMaps(["gradient"], 2, strict=True)).validate(Plain(), loaders, verbose=False)
    assert arrays(tmp_path)["labels"].tolist() == [0, 0]


def test_a_data_set_that_draws_random_numbers_takes_none_from_training(tmp_path):
    class Plain(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))

        def forward(self, images):
            return self.net(images)

        def validation_step(self, batch, batch_idx):
            return None

    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, place):
            return torch.rand(3, 2, 2) + random.random() + np.random.random(), 0  # noqa: NPY002

    class Kept(Watched):
        def _draw(self, *arguments):
            before = random.getstate()
            super()._draw(*arguments)
            assert random.getstate() == before

    callback = Kept(["gradient"], 2, strict=True)
    trainer(tmp_path, callback).validate(Plain(), torch.utils.data.DataLoader(Noisy()), verbose=False)
    assert callback.watched == 1


def test_without_validation_images_training_images_are_drawn(tmp_path, cache):
    data = birds(cache)
    data.__dict__["splits"] = {name: split for name, split in data.splits.items() if name != "val"}
    module = dense()
    trainer(tmp_path, AttributionMaps(["gradient"], images=[4, 1])).fit(module, data)
    found = arrays(tmp_path, epoch=1)
    images = torch.stack([data.plain_train_dataset[place][0] for place in (4, 1)])
    expected = attribute(module.model, images, method="gradient").raw
    np.testing.assert_allclose(found["gradient/raw"], expected, rtol=1e-4, atol=1e-6)
    assert len(list((tmp_path / "attribution").glob("*.npz"))) == 2


def test_every_tested_stage_has_a_folder_of_its_own(tmp_path, cache):
    run, data = trainer(tmp_path, AttributionMaps(["gradient"], 2, choose="worst")), birds(cache)
    for number, stage in enumerate(("dense", "sparse")):
        module = sparse() if number else dense()
        module.stage = stage
        run.test(module, datamodule=data, verbose=False)
    first, second = (arrays(tmp_path, f"attribution_test/{stage}") for stage in ("dense", "sparse"))
    assert not np.array_equal(first["gradient/raw"], second["gradient/raw"])


def test_what_is_not_there_is_refused_before_training(tmp_path, cache):
    for wrong, told in (
        (AttributionMaps(["gradient"], images=[99]), "no image 99"),
        (AttributionMaps(["gradient"], target=3), "no class 3; they are 0 to 2"),
    ):
        run = trainer(tmp_path, wrong)
        with pytest.raises(UserError, match=told):
            run.fit(dense(), birds(cache))
        assert run.global_step == 0
    with pytest.raises(UserError, match='target "topp" is unknown'):
        AttributionMaps(["gradient"], target="topp")


def test_only_images_of_the_first_loader_count_as_worst(tmp_path, cache):
    data = birds(cache)
    callback = AttributionMaps(["gradient"], 2, choose="worst")
    loaders = [data.val_dataloader(), data.test_dataloader()]
    module = dense()
    module.validation_step = lambda batch, batch_idx, dataloader_idx=0: module.shared_step(batch)
    trainer(tmp_path, callback).validate(module, dataloaders=loaders, verbose=False)
    with torch.no_grad():
        images, labels = (torch.stack([torch.as_tensor(i[k]) for i in data.val_dataset]) for k in (0, 1))
        losses = functional.cross_entropy(module.model.eval()(images), labels, reduction="none")
    assert callback.places["attribution"] == losses.topk(2).indices.tolist()


def test_bad_input_is_one_sentence(cache, tmp_path):
    with pytest.raises(UserError, match="no attribution method"):
        AttributionMaps(["gradcamera"])
    with pytest.raises(UserError, match="no attribution method"):
        AttributionMaps(options={"gradcamera": {}})
    with pytest.raises(UserError, match="at least one method"):
        AttributionMaps([])
    with pytest.raises(UserError, match="at least 1"):
        AttributionMaps(images=0)
    with pytest.raises(UserError, match="classes or worst"):
        AttributionMaps(choose="best")
    with pytest.raises(UserError, match="no image 99; they are 0 to 14"):
        trainer(tmp_path, AttributionMaps(images=[3, 99])).validate(dense(), birds(cache), verbose=False)
