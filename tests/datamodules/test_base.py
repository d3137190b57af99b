import math
from contextlib import nullcontext

import lightning as L
import numpy as np
import pytest
import torch

from datamodules.images import PackedImages, Split
from datamodules.normalisation import IMAGENET, channel_statistics
from handful.errors import UserError
from tests.datamodules.fakes import Numbered, numbers


class Recorder(L.LightningModule):
    """Writes the bytes of every batch it meets to a file by stage and rank; learns nothing."""

    def __init__(self, folder, stop_after=math.inf):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.folder, self.stop_after, self.steps = folder, stop_after, 0

    def note(self, stage, batch):
        images, labels = batch
        line = f"{self.current_epoch} {images.numpy().tobytes().hex()} {labels.tolist()}\n"
        with (self.folder / f"{stage}-{self.global_rank}").open("a") as file:
            file.write(line)

    def training_step(self, batch, batch_idx):
        self.steps += 1
        if self.steps > self.stop_after:
            raise RuntimeError("killed")
        self.note("train", batch)
        return (self.weight * batch[0].mean()).sum()

    def validation_step(self, batch, batch_idx):
        self.note("val", batch)

    def test_step(self, batch, batch_idx):
        self.note("test", batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    return L.Trainer(accelerator="cpu", default_root_dir=folder, **quiet, **options)


def batches_of(loader):
    return [(images.clone(), labels.clone()) for images, labels in loader]


def test_what_the_loaders_give():
    data = Numbered(augmentation="none")
    data.prepare_data()
    data.setup()
    assert data.num_classes == 2
    train = [n for images, _ in data.train_dataloader() for n in numbers(images)]
    assert sorted(train) == list(range(23))
    assert train != list(range(23))
    for loader, count in (
        (data.plain_train_dataloader(), 23),
        (data.val_dataloader(), 7),
        (data.test_dataloader(), 11),
    ):
        seen = [
            (n, label) for images, labels in loader for n, label in zip(numbers(images), labels.tolist(), strict=True)
        ]
        assert seen == [(n, n % 2) for n in range(count)]
    images, labels = next(iter(data.train_dataloader()))
    assert (images.dtype, images.shape, labels.dtype, labels.shape) == (torch.float32, (4, 3, 8, 8), torch.int64, (4,))


@pytest.mark.parametrize("augmentation", ["crop_flip", "standard"])
def test_batches_are_bit_equal_whatever_the_workers(augmentation):
    alone, helped = (Numbered(augmentation=augmentation, num_workers=workers, side=9) for workers in (0, 2))
    for one, other in (
        (alone.train_dataloader(), helped.train_dataloader()),
        (alone.test_dataloader(), helped.test_dataloader()),
    ):
        pairs = list(zip(batches_of(one), batches_of(other), strict=True))
        assert all(torch.equal(a, b) and torch.equal(la, lb) for (a, la), (b, lb) in pairs)


def test_a_batch_equals_its_items_one_by_one():
    data = Numbered(augmentation="crop_flip", side=11, normalisation={"mean": [0.3, 0.5, 0.7], "std": [0.2, 0.3, 0.1]})
    keys = [(epoch, index) for epoch in range(3) for index in (4, 0, 22)]
    together = data.train_dataset.__getitems__(keys)
    for key, (image, label) in zip(keys, together, strict=True):
        alone, its_label = data.train_dataset[key]
        assert torch.equal(alone, image)
        assert label == its_label
    assert not torch.equal(data.train_dataset[(0, 5)][0], data.train_dataset[(1, 5)][0])
    assert torch.equal(data.train_dataset[5][0], data.train_dataset[(0, 5)][0])


def test_iterating_takes_nothing_from_the_global_random_state():
    data = Numbered(augmentation="standard")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        list(loader)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_meets_the_batches_of_an_unbroken_one(tmp_path, workers):
    def run(name, stop_after=math.inf, resume=None):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        keep = L.pytorch.callbacks.ModelCheckpoint(folder, save_last=True)
        data = Numbered(augmentation="crop_flip", num_workers=workers, side=10)
        module = Recorder(folder, stop_after)
        with pytest.raises(RuntimeError, match="killed") if stop_after < math.inf else nullcontext():
            trainer(folder, max_epochs=4, callbacks=[keep]).fit(module, data, ckpt_path=resume)
        return folder

    whole = (run("whole") / "train-0").read_text().splitlines()
    broken = run("broken", stop_after=2 * 6 + 3)  # in the third epoch of six steps
    kept = (broken / "train-0").read_text().splitlines()[: 2 * 6]
    (broken / "train-0").unlink()
    rest = (run("broken", resume=broken / "last.ckpt") / "train-0").read_text().splitlines()
    assert [line.split()[0] for line in whole] == [str(epoch) for epoch in range(4) for _ in range(6)]
    assert len(set(whole)) == 24
    assert kept + rest == whole


def test_two_processes_see_every_sample_and_no_evaluation_sample_twice(tmp_path):
    data = Numbered(augmentation="none")
    two = trainer(tmp_path, devices=2, strategy="ddp_fork", max_epochs=1)
    two.fit(Recorder(tmp_path), data)
    trainer(tmp_path, devices=2, strategy="ddp_fork").test(Recorder(tmp_path), data, verbose=False)

    def seen(stage):
        images = []
        for rank in range(2):
            for line in (tmp_path / f"{stage}-{rank}").read_text().splitlines():
                pixels = np.frombuffer(bytes.fromhex(line.split()[1]), dtype=np.float32).reshape(-1, 3, 8, 8)
                images += numbers(torch.from_numpy(pixels.copy()))
        return sorted(images)

    assert seen("val") == list(range(7))
    assert seen("test") == list(range(11))
    train = seen("train")
    assert len(train) == 24
    assert set(train) == set(range(23))


def test_a_fit_without_validation_images_runs(tmp_path):
    class Unvalidated(Numbered):
        def load_splits(self):
            return {name: split for name, split in super().load_splits().items() if name != "val"}

    data = Unvalidated(augmentation="none")
    assert data.val_dataset is None
    assert data.val_dataloader() == []
    trainer(tmp_path, max_epochs=1, enable_checkpointing=False).fit(Recorder(tmp_path), data)
    assert [path.name for path in tmp_path.iterdir()] == ["train-0"]


def test_statistics_are_those_of_numpy_in_float64():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (3, 8, 8 + i % 3), dtype=np.uint8) // (1 + i % 4) for i in range(40)]
    packed = PackedImages(
        torch.from_numpy(np.concatenate([i.ravel() for i in images])), [8] * 40, [i.shape[2] for i in images]
    )
    split = Split(packed, range(40), torch.zeros(40, dtype=torch.int64), [""] * 40)
    mean, std = channel_statistics(split, 8)
    # odd widths: torchvision's centre crop rounds half to even
    cropped = np.stack([i[:, :, round((i.shape[2] - 8) / 2) :][:, :, :8] for i in images]).astype(np.float64) / 255
    np.testing.assert_allclose(mean, cropped.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, cropped.std((0, 2, 3)), rtol=1e-12)


def test_computed_statistics_normalise_the_training_images_and_come_back_from_the_cache(tmp_path, monkeypatch):
    data = Numbered(normalisation="compute", cache_dir=str(tmp_path))
    images = torch.stack([image for image, _ in data.plain_train_dataset])
    assert images.mean().abs() < 1e-5
    assert abs(images.std(correction=0) - 1) < 1e-5
    monkeypatch.setattr("datamodules.base.channel_statistics", None)  # would fail if it were called
    again = Numbered(normalisation="compute", cache_dir=str(tmp_path))
    assert (again.mean, again.std) == (data.mean, data.std)


def test_normalisation_by_name_by_numbers_and_from_the_backbone():
    assert (Numbered(normalisation="imagenet").mean, Numbered(normalisation="imagenet").std) == IMAGENET
    data = Numbered(normalisation="backbone")
    with pytest.raises(UserError, match="normalisation: 'backbone' means that of the pipeline's network"):
        data.setup()
    data.set_normalisation([0.5] * 3, [0.25] * 3)
    data.setup()
    image, _ = data.test_dataset[10]
    pixels = data.splits["test"].pixels(10)
    assert torch.allclose(image, (pixels / 255 - 0.5) / 0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "data.image_size must be at least 1, not 0"),
        ({"batch_size": 0}, "data.batch_size must be at least 1, not 0"),
        ({"image_size": 10**6}, "data.image_size must be at most 8,192, not 1,000,000"),
        ({"seed": 2**63}, r"data.seed must be below 2\^63"),
        ({"num_workers": -1}, "must not be negative"),
        ({"normalisation": "imagnet"}, "data.normalisation must be compute, imagenet, backbone or a mean and std"),
        ({"normalisation": {"mean": [0, 0, 0]}}, "needs three numbers each as mean and std"),
        ({"normalisation": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "needs a std above 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Numbered(**options)


def test_an_index_beyond_the_end_is_an_index_error():
    data = Numbered()
    for index in (11, -1):
        with pytest.raises(IndexError):
            data.test_dataset[index]
    assert torch.equal(data.test_dataset[np.int64(3)][0], data.test_dataset[3][0])
    assert len(list(data.test_dataset)) == 11
