"""The filters of every epoch: against the statistics of a second pass, and equal on one process and on two."""

import csv

import lightning.pytorch as pl
import pytest
import torch

from callbacks import ClassFilters
from datamodules.toy_birds import ToyBirds
from handful.filters import EssentialityTest, StatisticsCollector, overlap, select_filters, union_size
from lightning_modules import Dense

NETWORK = {"backbone": "cifar_resnet20", "dropout": 0.0}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def birds(cache, val=5):
    return ToyBirds(
        n_classes=3,
        images_per_class=6,
        val_images_per_class=val,
        test_images_per_class=2,
        image_size=16,
        batch_size=4,
        normalisation="imagenet",
        cache_dir=cache,
    )


def trainer(folder, callback, **arguments):
    return pl.Trainer(
        **{"accelerator": "cpu", "devices": 1, "max_epochs": 2, "num_sanity_val_steps": 0, **arguments},
        default_root_dir=folder,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def dense():
    torch.manual_seed(0)
    return Dense(NETWORK, 3, beta=0.0)


def table(folder, epoch):
    return list(csv.DictReader((folder / "class_filters" / f"epoch_{epoch:03d}.csv").open()))


class Record(ClassFilters):
    """Keeps what a second, separate pass over the validation images gives after every epoch."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.expected = []

    def on_validation_epoch_end(self, trainer, pl_module):
        super().on_validation_epoch_end(trainer, pl_module)
        dataset = trainer.datamodule.val_dataset
        with torch.no_grad():
            features = pl_module.model.features(torch.stack([dataset[i][0] for i in range(len(dataset))]))
        collector = StatisticsCollector(3, 64, (4,))
        collector.update(features, dataset.labels)
        statistics = collector.compute()
        filters = select_filters("frequency", 3, statistics, k1=4)
        test = EssentialityTest(pl_module.model.head, filters, 64)
        test.update(features, dataset.labels, torch.arange(len(dataset)))
        logged = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("filters/")}
        self.expected.append((filters, statistics.frequencies(4), test.compute(), logged))


def test_every_epoch_is_what_a_second_pass_would_find(tmp_path, cache):
    callback = Record(k1=4, k2=3)
    trainer(tmp_path, callback, max_epochs=3).fit(dense(), birds(cache))
    assert len(callback.expected) == 3
    for epoch, (filters, frequencies, noise, logged) in enumerate(callback.expected):
        rows = table(tmp_path, epoch)
        assert [int(row["filter"]) for row in rows] == filters.flatten().tolist()
        assert [int(row["place"]) for row in rows] == [0, 1, 2] * 3
        told = torch.tensor([float(row["frequency"]) for row in rows]).view(3, 3).double()
        torch.testing.assert_close(told, frequencies.gather(1, filters), rtol=0, atol=1e-6)
        assert logged["filters/union"] == union_size(filters)
        assert logged["filters/noise_on_filters"] == pytest.approx(noise["filters"])
        assert logged["filters/noise_on_as_many_others"] == pytest.approx(noise["as_many_others"])
        assert logged["filters/noise_on_the_rest"] == pytest.approx(noise["rest"])
    assert "filters/overlap" not in callback.expected[0][3]
    assert {row["overlap"] for row in table(tmp_path, 0)} == {""}
    for epoch in (1, 2):
        same = overlap(callback.expected[epoch][0], callback.expected[epoch - 1][0])
        assert callback.expected[epoch][3]["filters/overlap"] == pytest.approx(float(same.mean()))
        assert [float(row["overlap"]) for row in table(tmp_path, epoch)[::3]] == pytest.approx(same.tolist(), abs=1e-6)


def test_two_processes_write_what_one_writes(tmp_path, cache):
    metrics = []
    for name, more in (("one", {}), ("two", {"devices": 2, "strategy": "ddp_fork"})):
        run = trainer(tmp_path / name, ClassFilters(k1=4, k2=3), **more)
        run.validate(dense(), birds(cache), verbose=False)
        metrics.append({k: float(v) for k, v in run.callback_metrics.items() if k.startswith("filters/")})
    assert table(tmp_path / "one", 0) == table(tmp_path / "two", 0)
    assert metrics[0] == metrics[1]
    assert set(metrics[0]) == {
        f"filters/{n}"
        for n in (
            "union",
            "noise_on_filters",
            "noise_on_as_many_others",
            "noise_on_the_rest",
        )
    }


def test_it_leaves_the_training_as_it_is(tmp_path, cache):
    states = []
    for callback in (ClassFilters(k1=4, k2=3), pl.Callback()):
        module = dense()
        torch.manual_seed(1)
        trainer(tmp_path, callback).fit(module, birds(cache))
        states.append((module.state_dict(), torch.get_rng_state()))
    (watched, watched_rng), (alone, alone_rng) = states
    assert all(torch.equal(watched[k], alone[k]) for k in alone)
    assert torch.equal(watched_rng, alone_rng)


def test_no_second_forward_pass(tmp_path, cache):
    calls = []
    module = dense()
    module.model.backbone.register_forward_hook(lambda *_: calls.append(1))
    trainer(tmp_path, ClassFilters(k1=4, k2=3)).validate(module, birds(cache), verbose=False)
    assert len(calls) == 4  # 15 images in batches of 4


def test_a_resumed_run_compares_with_the_epoch_before(tmp_path, cache):
    first = ClassFilters(k1=4, k2=3)
    trainer(tmp_path, first).validate(dense(), birds(cache), verbose=False)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    again = ClassFilters(k1=4, k2=3)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    run = trainer(tmp_path, again)
    run.validate(dense(), birds(cache), verbose=False)
    assert run.callback_metrics["filters/overlap"] == 1


def test_a_class_without_validation_images_is_logged_and_skipped(tmp_path, cache):
    with pytest.warns(UserWarning, match="some classes have no validation image"):
        trainer(tmp_path, ClassFilters(k1=4, k2=3), limit_val_batches=1).validate(
            Dense(NETWORK, 5, beta=0.0), birds(cache), verbose=False
        )
    assert not (tmp_path / "class_filters").exists()
