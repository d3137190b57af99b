"""What lies on an image moves with it, whatever the augmentation draws."""

import random
from typing import get_args

import numpy as np
import pytest
import torch

from datamodules import CUB200, STL10, ToyBirds
from datamodules.augmentation import AugmentationName, build_augmentation
from datamodules.augmented import Marks, augmented_pixels
from handful.errors import UserError
from tests.datamodules import official_forms as forms

NAMES = get_args(AugmentationName)
SEEDS = range(60)


def dotted(seed, height=70, width=90):
    """A grey image with a white disc, the disc as a mask, and where its centre is."""
    draw = np.random.default_rng(seed)
    x, y = draw.uniform(7, width - 8), draw.uniform(7, height - 8)
    rows, columns = np.mgrid[:height, :width]
    disc = torch.from_numpy((rows - y) ** 2 + (columns - x) ** 2 <= 36)
    image = torch.full((3, height, width), 90, dtype=torch.uint8)
    image[:, disc] = 230
    parts = torch.tensor([[x, y]], dtype=torch.float64)
    box = torch.tensor([x - 6, y - 6, x + 7, y + 7], dtype=torch.float64)
    return image, Marks(parts, torch.tensor([True]), box, disc[None])


def centre(weights):
    rows, columns = torch.meshgrid(*(torch.arange(side).double() for side in weights.shape), indexing="ij")
    total = weights.double().sum()
    return torch.stack([(columns * weights).sum() / total, (rows * weights).sum() / total])


@pytest.mark.parametrize("name", NAMES)
def test_a_painted_dot_stays_under_its_part(name):
    """Image, mask, box and part of a disc agree after any draw; the image is that of the loader."""
    augment = build_augmentation(name, 48, "bicubic")
    looked_at = 0
    for seed in SEEDS:
        image, marks = dotted(seed)
        pixels, moved = augmented_pixels(augment, image, marks, seed)
        assert torch.equal(pixels, augment(image, seed))
        assert moved.masks.shape == (1, 48, 48)
        assert moved.masks.dtype == torch.bool
        (x, y), (left, top, right, bottom) = moved.parts[0].tolist(), moved.box.tolist()
        assert bool(moved.seen[0]) == (-0.5 <= x < 47.5 and -0.5 <= y < 47.5)
        if min(left, top) <= 0 or max(right, bottom) >= 48:  # a part of the disc is cut away: its centre lies elsewhere
            continue
        looked_at += 1
        assert (centre(moved.masks[0]) - moved.parts[0]).abs().max() < 1, (name, seed)
        rows, columns = torch.nonzero(moved.masks[0], as_tuple=True)
        edges = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).double()
        # shears and rotations of a box are boxes around it
        assert (edges[:2] - moved.box[:2] > -1.01).all()
        assert (moved.box[2:] - edges[2:] > -1.01).all()
        # colours may have taken the dot away, or left a black border as far from grey
        grey = (pixels.double() - pixels[:, int(y), int(x)].double()[:, None, None]).abs().sum(dim=0)
        like = grey < 0.25 * grey.max()
        if grey.max() > 100 and like.sum() < 2 * moved.masks.sum():
            assert (centre(like) - moved.parts[0]).abs().max() < 1.5, (name, seed)
    assert looked_at >= 8


@pytest.mark.parametrize("name", NAMES)
def test_generators_stay(name):
    """Neither torch's nor Python's nor numpy's numbers are used up, and each seed has its own picture."""
    image, marks = dotted(0)
    augment = build_augmentation(name, 48, "bilinear")
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    augmented_pixels(augment, image, marks, 3)
    different = {augment(image, seed).numpy().tobytes() for seed in range(8)}
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()  # noqa: NPY002
    assert (len(different) == 1) == (name == "none")


def test_marks_of_cub(tmp_path):
    """The parts of CUB lie on the image that the training loader gives, also those that the centre crop cuts away."""
    home = forms.write_cub(tmp_path)
    for n, image in enumerate(sorted((home / "images").rglob("*.jpg"))):
        mask = home / "segmentations" / image.relative_to(home / "images").with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        grey = np.zeros((20, 40), dtype=np.uint8)
        grey[:, 2:6] = 255
        picture = np.zeros((20, 40, 3), dtype=np.uint8) + 40
        picture[8:13, 2:7] = 250
        forms.Image.fromarray(grey).save(mask)
        forms.Image.fromarray(picture).save(image, quality=100)
        assert n < 12
    forms.lines(home / "parts/part_locs.txt", [f"{n} {p} 4 10 {int(p == 1)}" for n in range(1, 13) for p in (1, 2, 3)])
    for options in ({}, {"cache": False}, {"fit": "pad"}, {"crop_to_box": True, "fit": "squash"}):
        data = CUB200(str(home), complete=False, image_size=20, batch_size=2, normalisation="imagenet",
                      cache_dir=str(tmp_path / "cache"), **options)  # fmt: skip
        seen = 0
        for index in range(len(data.train_dataset)):
            for epoch in range(4):
                found = data.augmented(index, epoch)
                assert torch.equal(found.image, data.train_dataset[epoch, index][0])
                assert found.marks.masks.shape == (2, 20, 20)
                assert found.marks.seen.tolist()[1:] == [False, False]
                if found.marks.seen[0]:
                    x, y = found.marks.parts[0].round().int().tolist()
                    seen += 1
                    assert found.image[0, y, x] > found.image[0].mean()
                    assert found.marks.masks[0, y, x]
        if "crop_to_box" in options:
            assert seen == 0  # the box leaves the part out
        else:
            assert seen >= 4  # in the unaugmented image of a crop it is not seen
    assert not CUB200(str(home), complete=False, image_size=20).annotations("train").parts.positions([0])[1].any()


def test_marks_of_toy_birds(tmp_path):
    """What is drawn is known exactly: masks of parts are where the parts are."""
    data = ToyBirds(n_classes=3, images_per_class=4, val_images_per_class=1, test_images_per_class=1, image_size=32,
                    augmentation="crop_flip", cache_dir=str(tmp_path))  # fmt: skip
    found = data.augmented(2, 1)
    assert torch.equal(found.image, data.train_dataset[1, 2][0])
    known, looked_at = data.annotations("train"), 0
    concepts = [concept.name for concept in known.masks.concepts]
    for part, name in enumerate(known.parts.part_names):
        mask = found.marks.masks[concepts.index(name)]
        if mask.sum() > 8 and found.marks.seen[part]:
            looked_at += 1
            pixels = torch.nonzero(mask).flip(1).double()
            assert (pixels - found.marks.parts[part]).norm(dim=1).min() < 1.5
    assert looked_at


def test_nothing_is_known(tmp_path):
    """A data set without annotations has none after augmentation either."""
    data = STL10(str(forms.write_stl10(tmp_path)), complete=False, image_size=96, cache_dir=str(tmp_path / "cache"))
    marks = data.augmented(0).marks
    assert (len(marks.parts), marks.box, len(marks.masks)) == (0, None, 0)


def test_an_unknown_augmentation_names_its_neighbour():
    with pytest.raises(UserError, match=r"crop_flip, standard.*did you mean 'crop_flip'"):
        build_augmentation("crop_flipp", 8)
