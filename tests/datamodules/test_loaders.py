import os
import signal
import warnings
from types import SimpleNamespace

import pytest
import torch

from datamodules import loaders, module_loaders
from datamodules.image_folder import ImageFolder
from datamodules.loaders import affordable_workers
from handful.errors import UserError
from tests.datamodules.fakes import Numbered, write_images


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_goes_bad_later_is_named_in_one_sentence(tmp_path, workers):
    root = write_images(tmp_path / "data", {s: {"owl": 6, "tit": 6} for s in ("train", "test")})
    data = ImageFolder(str(root), image_size=8, batch_size=4, cache=False, num_workers=workers)
    data.setup()
    (root / "test/owl/002.png").write_text("torn")
    with pytest.raises(UserError, match=r"^[^\n]*test/owl/002\.png cannot be read as an image[^\n]*$"):
        list(data.test_dataloader())
    (root / "train/tit/002.png").unlink()
    with pytest.raises(UserError, match=r"^[^\n]*train/tit/002\.png cannot be read: No such file[^\n]*$"):
        list(data.train_dataloader())


class Killing(Numbered):
    """Every loader process kills itself."""

    def _dataset(self, split, augmented=False):
        dataset = super()._dataset(split, augmented)
        dataset._pixels = lambda epoch, index: os.kill(os.getpid(), signal.SIGKILL)
        return dataset


def test_a_killed_loader_process_is_a_sentence():
    with pytest.raises(UserError, match=r"A loader process was killed, probably because memory ran out.* \(now 1\)"):
        list(Killing(num_workers=1).test_dataloader())


def test_small_shared_memory_loads_without_processes(monkeypatch, tmp_path):
    assert affordable_workers(2, 1000) == 2
    with pytest.warns(UserWarning, match=r"/dev/shm has .* MiB free, and 4 loader processes need .*--shm-size"):
        assert affordable_workers(4, 2**50) == 0
    monkeypatch.setattr(loaders, "_SHARED_MEMORY", tmp_path / "none")
    assert affordable_workers(4, 2**50) == 4


@pytest.mark.parametrize(("cores", "devices", "expected"), [(1, 1, 0), (2, 1, 0), (8, 1, 1), (32, 2, 2), (256, 1, 8)])
def test_loader_processes_follow_the_cores_and_the_batches_do_not(tmp_path, monkeypatch, cores, devices, expected):
    root = write_images(tmp_path / "data", {s: {"owl": 6, "tit": 6} for s in ("train", "test")})
    monkeypatch.setattr(module_loaders, "usable_cores", lambda: cores)
    monkeypatch.setattr(loaders, "_FEW_PIXELS", 0)
    options = {"image_size": 8, "batch_size": 4, "augmentation": "standard"}
    found, alone = ImageFolder(str(root), **options), ImageFolder(str(root), num_workers=0, **options)
    trainer = SimpleNamespace(
        num_devices=devices, strategy=SimpleNamespace(root_device=torch.device("cpu")), global_rank=0, world_size=1,
        current_epoch=0,
    )  # fmt: skip
    found.trainer = trainer
    assert found.train_dataloader().num_workers == found.test_dataloader().num_workers == expected
    if expected <= 2:
        for one, other in zip(found.train_dataloader(), alone.train_dataloader(), strict=True):
            assert all(map(torch.equal, one, other))


def test_few_images_and_drawn_ones_need_no_loader_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(module_loaders, "usable_cores", lambda: 64)
    root = write_images(tmp_path / "data", {s: {"owl": 6, "tit": 6} for s in ("train", "test")})
    assert ImageFolder(str(root), image_size=8).train_dataloader().num_workers == 0
    monkeypatch.setattr(loaders, "_FEW_PIXELS", 0)
    assert Numbered().train_dataloader().num_workers == 0
    assert Numbered(num_workers=1).train_dataloader().num_workers == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nobody has asked for processes that find no shared memory
        assert affordable_workers(4, 2**50, wanted=False) == 0


@pytest.mark.parametrize(
    ("count", "batch_size", "left"), [(23, 11, 22), (23, 4, 23), (1, 4, 1), (23, 1, 23), (24, 23, 23)]
)
def test_a_last_batch_of_one_image_is_left_out_and_said(count, batch_size, left):
    data = Numbered(count=count, batch_size=batch_size, augmentation="none")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loader = data.train_dataloader()
    assert len([w for w in caught if "leave one image alone" in str(w.message)]) == (left < count)
    sizes = [len(labels) for _, labels in loader]
    assert sum(sizes) == left
    assert len(sizes) == len(loader)
    if count > 1 < batch_size:
        norm = torch.nn.BatchNorm1d(3)
        for images, _ in loader:
            norm(images.mean((2, 3)))
