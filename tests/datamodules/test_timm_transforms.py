"""timm's transforms: the same pixels as timm's own, cached or not, in training, in testing, and in what is loaded."""

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from datamodules import ImageFolder, ToyBirds
from datamodules.samplers import mixed
from datamodules.timm_augmentation import _drawing_from
from handful.errors import UserError
from handful.images import Inputs
from handful.images.placement import Framing, Placement
from handful.networks import input_config
from tests.datamodules import official_forms as forms

LITE, RESNET = {"backbone": "tf_efficientnet_lite0.in1k"}, {"backbone": "resnet50.tv_in1k"}


def photos(folder):
    for split, count in (("train", 3), ("test", 2)):
        for k, name in enumerate("ab"):
            for n in range(count):
                forms.picture(folder / split / name / f"{n}.png", (90 + 7 * n, 60 + 11 * k), 10 * k + n + len(split))
    return folder


def data_of(folder, tmp_path, network, **options):
    given = {"fit": "timm", "augmentation": "timm", "normalisation": "backbone", "cache_dir": str(tmp_path / "cache")}
    data = ImageFolder(str(folder), val_fraction=0, image_size=32, batch_size=2, **(given | options))
    data.follow(network)
    return data


@pytest.mark.parametrize("network", [LITE, RESNET], ids=["bicubic", "bilinear"])
@pytest.mark.parametrize("cache", [True, False])
def test_pixels_are_timms_own(network, cache, tmp_path):
    """Test images to the last bit of float32; training images given the same draw and the resized picture."""
    folder = photos(tmp_path / "photos")
    data = data_of(folder, tmp_path, network, cache=cache)
    config = input_config(network)
    framing = config.framing
    own = create_transform((3, 32, 32), is_training=False, crop_pct=framing.share, interpolation=framing.resampling,
                           mean=config.mean, std=config.std)  # fmt: skip
    for index, name in enumerate(data.test_dataset.names):
        assert torch.allclose(data.test_dataset[index][0], own(Image.open(folder / name)), atol=1e-6)
    train = create_transform((3, 32, 32), is_training=True, interpolation=framing.resampling, mean=config.mean,
                             std=config.std)  # fmt: skip
    for epoch in range(3):
        stored = data.splits["train"].pixels(1)
        assert min(stored.shape[1:]) == 36
        with _drawing_from(mixed(data.seed, epoch, 1)):
            expected = train(Image.fromarray(stored.permute(1, 2, 0).numpy()))
        assert torch.allclose(data.train_dataset[epoch, 1][0], expected, atol=1e-6)
    assert data.train_dataset[0, 1][0].mean().abs() < 2  # normalised once
    assert data.summary()["fit"] == str(framing)


def test_what_is_loaded_sees_pictures_as_in_testing(tmp_path):
    """A model's inputs carry the framing through a record, and boxes and points are placed by it."""
    folder = photos(tmp_path / "photos")
    data = data_of(folder, tmp_path, LITE)
    inputs = Inputs.from_record(data.summary(), "results.json")
    for index, name in enumerate(data.test_dataset.names):
        assert torch.equal(inputs.image(Image.open(folder / name).convert("RGB")), data.test_dataset[index][0])
    with pytest.raises(UserError, match=r"results.json: fit: no way to bring"):
        Inputs.from_record(data.summary() | {"fit": "crop 2 bicubic"}, "results.json")


FITS = ["crop", "pad", "squash", "crop 0.875 bicubic", "pad 0.9 bilinear", "squash 0.8 nearest"]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(90, 60), (31, 77), (40, 40)])
def test_points_stay_on_what_they_mark(fit, size):
    """A dot in the picture is where the placement says; the share of the picture that is seen is the framing's."""
    x, y = size[0] // 2 + 4, size[1] // 2 - 3
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[y - 2 : y + 3, x - 2 : x + 3] = 255
    placement = Placement.of(size, 48, fit)
    square = np.asarray(placement.square(Image.fromarray(pixels))).astype(float)
    rows, columns = np.mgrid[:48, :48]
    found = [(grid * square).sum() / square.sum() for grid in (columns, rows)]
    assert square.shape == (48, 48)
    assert placement.points(torch.tensor([x, y]))[None][0].tolist() == pytest.approx(found, abs=0.6)
    assert min(placement.target) == Framing.of(fit).resized_side(48) or fit.startswith("pad")


def test_nothing_has_said_which_network(tmp_path):
    """Outside of a pipeline, and for networks of which timm knows nothing."""
    folder = photos(tmp_path / "photos")
    for option, said in (("fit", "data.fit: 'timm' means"), ("augmentation", "data.augmentation: 'timm' means")):
        data = ImageFolder(str(folder), val_fraction=0, image_size=16, normalisation="imagenet", **{option: "timm"})
        with pytest.raises(UserError, match=said):
            _ = data.train_dataset[0]
        with pytest.raises(UserError, match="timm says nothing of how images of conv4 are"):
            data.follow({"backbone": "conv4"})
    with pytest.raises(UserError, match=r"data.fit must be one of crop, pad, squash, timm, not 'tim'; did you mean"):
        ImageFolder(str(folder), fit="tim")
    birds = ToyBirds(n_classes=2, images_per_class=2, image_size=24, augmentation="timm", cache_dir=str(tmp_path))
    birds.follow(RESNET)
    assert birds.train_dataset[0, 1][0].shape == (3, 24, 24)
