"""Folders that are called by ImageNet's classes, in any of their names; and images of which nothing is known."""

import numpy as np
import pytest
from PIL import Image

from datamodules import ImageNetFolder
from datamodules.imagenet_folder import imagenet_names
from handful.errors import UserError


def folder(path, *names):
    generator = np.random.default_rng(0)
    for name in names:
        (path / name).mkdir(parents=True)
        for number in range(5):
            pixels = generator.integers(0, 255, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(path / name / f"{number}.png")
    return path


def read(path, tmp_path, **options):
    return ImageNetFolder(str(path), image_size=16, val_fraction=0.0, cache_dir=str(tmp_path / "cache"), **options)


@pytest.mark.parametrize("names", [("11", "80"), ("011", "n01795545"), ("Goldfinch", "black_grouse"),
                                   ("Carduelis carduelis", "080"),
                                   ("n01531178-goldfinch", "black grouse.N01795545")])  # fmt: skip
def test_numbers_synsets_and_names_are_the_same_classes(tmp_path, names):
    data = read(folder(tmp_path / "images", *names), tmp_path)
    data.prepare_data()
    data.setup("fit")
    assert data.num_classes == 1000
    assert set(data.plain_train_dataset.labels.tolist()) == {11, 80}
    assert [data.class_names[number] for number in (11, 80)] == ["goldfinch", "black grouse"]
    assert len(data.plain_train_dataset) == 8  # a fifth is drawn to test on, class by class


def test_every_name_is_there_once():
    names = imagenet_names()
    assert len(set(names)) == 1000
    assert "crane (n02012849)" in names


@pytest.mark.parametrize(("names", "words"), [
    (("goldfinc", "80"), "goldfinc is no class of ImageNet, by number, synset or name; .*did you mean 'goldfinch'"),
    (("crane", "80"), "crane: a name of 2 classes of ImageNet .134, 517.; call the folder by the number"),
    (("1000", "80"), "1000 is no class of ImageNet"),
])  # fmt: skip
def test_other_names_are_one_sentence(tmp_path, names, words):
    with pytest.raises(UserError, match=words):
        _ = read(folder(tmp_path / "images", *names), tmp_path).listing


def test_any_images_without_their_classes(tmp_path):
    data = read(folder(tmp_path / "images", "mine", "yours"), tmp_path, classes="none")
    data.prepare_data()
    data.setup("fit")
    assert set(data.plain_train_dataset.labels.tolist()) == {0}
    with pytest.raises(UserError, match="folders or none, not"):
        read(tmp_path / "images", tmp_path, classes="some")


@pytest.mark.parametrize("names", [("",), ("mine",), ("train/a/b", "test")])
def test_images_in_no_folders_or_in_any(names, tmp_path):
    """As validation images of ImageNet come; "no class folders" was no reason where classes do not count."""
    for seed, name in enumerate(names):
        generator = np.random.default_rng(seed)
        (tmp_path / "images" / name).mkdir(parents=True, exist_ok=True)
        for number in range(5):
            pixels = generator.integers(0, 255, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    data = read(tmp_path / "images", tmp_path, classes="none")
    assert {split: len(images) for split, images in data.splits.items()} == (
        {"train": 5, "test": 5} if len(names) > 1 else {"train": 4, "test": 1}
    )
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="has no images"):
        _ = read(tmp_path / "nothing", tmp_path, classes="none").splits


@pytest.mark.parametrize(("names", "expected"), [
    (("train", "owl", "car"), {"train": 15}), (("train", "test", "owl"), {"train": 15}),
    (("train", "test"), {"train": 5, "test": 5}), (("train_images", "test_images"), {"train": 5, "test": 5}),
])  # fmt: skip
def test_images_in_folders_of_which_one_is_called_train(names, expected, tmp_path):
    """Those of `owl` and `car` were left out."""
    listing = read(folder(tmp_path / "images", *names), tmp_path, classes="none").listing
    assert {split: len(files) for split, files in listing.files.items()} == expected
