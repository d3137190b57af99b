"""Real images: the folder that the environment variable HANDFUL_DATA names."""

import torch

from datamodules.image_folder import ImageFolder


def test_cub_loads_from_its_archive(real_data):
    data = ImageFolder(str(real_data / "cub100.zip"), image_size=64, val_fraction=0, normalisation="imagenet")
    data.prepare_data()
    assert data.num_classes == 100
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 2999, "test": 2903}
    assert sum(len(labels) for _, labels in data.test_dataloader()) == 2903


def test_cifar_is_listed_from_its_archive(real_data):
    data = ImageFolder(str(real_data / "cifar10.zip"), image_size=32)
    assert data.num_classes == 10
    assert {name: len(files) for name, files in data.listing.files.items()} == {"train": 50000, "test": 10000}
    labels = torch.tensor([label for _, label in data.listing.files["test"]])
    assert torch.bincount(labels).tolist() == [1000] * 10


def test_a_tenth_of_each_cub_class_validates(real_data):
    whole, part = (
        ImageFolder(str(real_data / "cub100.zip"), image_size=64, val_fraction=fraction) for fraction in (0, 0.1)
    )
    counts = torch.bincount(whole.splits["train"].labels)
    taken = torch.bincount(part.splits["val"].labels)
    assert torch.equal(taken, (counts * 0.1).round().long())
    assert torch.equal(torch.bincount(part.splits["train"].labels), counts - taken)
