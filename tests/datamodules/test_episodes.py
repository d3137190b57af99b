import zipfile
from types import SimpleNamespace

import pytest
import torch

from datamodules import Episodes
from handful.errors import UserError
from tests.datamodules.fakes import write_images


@pytest.fixture
def folder(tmp_path):
    counts = {f"bird{i}": 7 for i in range(10)}
    return write_images(tmp_path / "birds", {"train": counts, "test": dict.fromkeys(counts, 3)}, size=(12, 10))


def data(folder, **options) -> Episodes:
    options = {"way": 3, "shot": 1, "query": 2, "episodes": 4, "image_size": 8, "fractions": (0.4, 0.3, 0.3)} | options
    module = Episodes(str(folder), **options)
    module.setup()
    return module


def test_classes_not_images_are_split(folder) -> None:
    module = data(folder)
    names = [set(split) for split in module.class_splits.values()]
    assert [len(split) for split in names] == [4, 3, 3]
    assert len(set.union(*names)) == 10
    assert module.num_classes == 4
    for split, dataset in (("base", module.train_dataset), ("val", module.val_dataset), ("novel", module.test_dataset)):
        assert len(dataset) == 10 * len(module.class_splits[split])
        for i in (0, len(dataset) - 1):
            assert module.class_splits[split][int(dataset.labels[i])] in dataset.names[i]
    assert data(folder, seed=1).class_splits != module.class_splits


def test_a_batch_is_an_episode_of_base_classes(folder) -> None:
    module = data(folder)
    batches = list(module.train_dataloader())
    assert len(batches) == 4
    for images, labels in batches:
        assert images.shape == (9, 3, 8, 8)
        grouped = labels.view(3, 3)
        assert (grouped == grouped[:, :1]).all()
        assert len(grouped[:, 0].unique()) == 3
    again = list(module.train_dataloader())
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, again, strict=True))


class Rank:
    current_epoch = 0
    strategy = SimpleNamespace(root_device=torch.device("cpu"))

    def __init__(self, rank: int, world: int) -> None:
        self.global_rank, self.world_size, self.num_devices = rank, world, world


def test_the_same_episodes_for_any_number_of_processes(folder) -> None:
    alone = list(data(folder).train_dataloader())
    shares = []
    for rank in range(2):
        module = data(folder)
        module.trainer = Rank(rank, 2)
        shares.append(list(module.train_dataloader()))
    for e, (images, labels) in enumerate(alone):
        assert torch.equal(shares[e % 2][e // 2][0], images)
        assert torch.equal(shares[e % 2][e // 2][1], labels)


def test_another_epoch_has_other_episodes_and_other_crops(folder) -> None:
    module = data(folder)
    module.trainer = Rank(0, 1)
    first = list(module.train_dataloader())
    module.trainer.current_epoch = 1
    second = list(module.train_dataloader())
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))


def test_folders_of_classes_alone_and_archives(folder, tmp_path) -> None:
    pooled = data(folder)
    with zipfile.ZipFile(tmp_path / "birds.zip", "w") as archive:
        for path in sorted((folder / "train").rglob("*.png")):
            archive.write(path, path.relative_to(folder / "train"))
    module = data(tmp_path / "birds.zip")
    assert module.class_splits == pooled.class_splits
    assert len(module.test_dataset) == 7 * 3


def test_bad_input(folder, tmp_path) -> None:
    with pytest.raises(UserError, match=r"data\.way"):
        Episodes(str(folder), way=1)
    with pytest.raises(UserError, match="does not exist"):
        data(tmp_path / "nothing")
    with pytest.raises(UserError, match="lower way, shot or query"):
        list(data(folder, query=20).train_dataloader())
    (folder / "train" / "bird3" / "000.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"bird3/000\.png"):
        data(folder, margin=2.0)


@pytest.mark.parametrize("places", [("images",), ("train_images", "test_images"), ("images/train", "images/test")])
def test_classes_below_folders_that_are_none(tmp_path, places) -> None:
    """CUB's folder has tables beside `images`; splits by other names were taken for classes."""
    counts = {f"bird{i}": 4 for i in range(10)}
    write_images(tmp_path, dict.fromkeys(places, counts), size=(12, 10))
    (tmp_path / "classes.txt").write_text("1 bird0")
    module = data(tmp_path)
    assert sorted(module.files) == sorted(counts)
    assert len(module.files["bird3"]) == 4 * len(places)


@pytest.mark.parametrize("fractions", [(0.9, 0.9, 0.9), (1.5, -0.25, -0.25), (0.5, 0.5)])
def test_shares_that_are_none(folder, fractions) -> None:
    """With shares above 1 no class was left to train on."""
    with pytest.raises(UserError, match=r"data\.fractions must be three shares"):
        data(folder, fractions=fractions)
