import numpy as np
import pytest
import torch

from datamodules import toy_birds
from datamodules.toy_birds import ToyBirds
from handful.birds import PART_NAMES, ToyBirdsDataset, render
from handful.errors import UserError

SMALL = {
    "n_classes": 3, "images_per_class": 4, "val_images_per_class": 2, "test_images_per_class": 3, "image_size": 32,
    "batch_size": 4, "augmentation": "none",
}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    return ToyBirds(cache_dir=str(tmp_path), **SMALL)


def test_splits_hold_the_drawn_images(data):
    data.prepare_data()
    data.setup()
    assert data.summary()["images"] == {"train": 12, "val": 6, "test": 9}
    assert data.num_classes == 3
    assert len(set(data.class_names)) == 3
    birds = ToyBirdsDataset("test", 3, 3, 32)
    mean, std = torch.tensor(data.mean).view(3, 1, 1), torch.tensor(data.std).view(3, 1, 1)
    for index, (image, label) in enumerate(data.test_dataset):
        pixels, expected = birds[index]
        assert label == expected == data.test_dataset.labels[index]
        assert torch.equal(((image * std + mean) * 255).round().to(torch.uint8), pixels)


def test_no_split_shares_an_image(data):
    seen = [
        data.splits[split].pixels(i).numpy().tobytes() for split in data.splits for i in range(len(data.splits[split]))
    ]
    assert len(seen) == len(set(seen)) == 27


def test_birds_are_drawn_once(data, tmp_path, monkeypatch):
    first = data.splits["train"].pixels(5)
    monkeypatch.setattr(toy_birds, "pack", None)  # would fail if it were called
    again = ToyBirds(cache_dir=str(tmp_path), **SMALL)
    assert torch.equal(again.splits["train"].pixels(5), first)
    with pytest.raises(TypeError):
        ToyBirds(cache_dir=str(tmp_path), **SMALL | {"seed": 1}).prepare_data()


def test_scenes_masks_and_attributes_belong_to_the_images(data):
    for index in (0, 4):
        scene = data.dataset_scene("test", index)
        drawn = render(scene, 32)
        assert np.array_equal(drawn.image.transpose(2, 0, 1), data.splits["test"].pixels(index).numpy())
        assert np.array_equal(drawn.masks, data.masks("test", index))
        assert data.attributes("test", index).sum() == len(PART_NAMES)
        bare = data.rendering("test", index, remove=("wing",))
        assert not bare.masks[PART_NAMES.index("wing")].any()


def test_no_validation_images(tmp_path):
    data = ToyBirds(cache_dir=str(tmp_path), **SMALL | {"val_images_per_class": 0})
    assert data.val_dataset is None
    assert data.val_dataloader() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_classes": 1}, "n_classes must be at least 2"),
        ({"n_classes": 6, "deciding_parts": ["beak"]}, "only 5 classes were found"),
        ({"deciding_parts": ["ear"]}, "deciding_parts takes different names among beak, wing"),
        ({"difficulty": "impossible"}, "difficulty must be one of easy, medium, hard"),
        ({"images_per_class": 0}, "data.images_per_class must be at least 1"),
        ({"test_images_per_class": 0}, "data.test_images_per_class must be at least 1"),
        ({"image_size": 8}, "size must be at least 16"),
    ],
)
def test_impossible_options_are_refused_before_anything_is_drawn(options, message):
    with pytest.raises(UserError, match=message):
        ToyBirds(**SMALL | options)


def test_words_in_the_drawing_code_do_not_change_what_the_images_are_known_by():
    from datamodules.toy_birds import _without_words

    code = '"""A bird."""\n\ndef wing(x):\n    """Draw."""\n    return x + 1  # up\n'
    assert _without_words(code) == _without_words(code.replace("A bird", "Another").replace("# up", ""))
    assert _without_words(code) != _without_words(code.replace("x + 1", "x + 2"))
    assert "pass" in _without_words('class A:\n    """Only words."""\n')
