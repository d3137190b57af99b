import pickle
from typing import get_args

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from datamodules.augmentation import AugmentationName, build_augmentation
from handful.errors import UserError
from handful.images import centre_crop

NAMES = get_args(AugmentationName)


def noise(height=12, width=12, seed=0):
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(12, 12), (12, 17), (20, 12)])
def test_every_augmentation_keeps_size_and_type_and_depends_on_the_seed_alone(name, shape):
    augment = build_augmentation(name, 12, "bilinear")
    image = noise(*shape)
    before = image.clone()
    torch.manual_seed(1)
    first = [augment(image, seed) for seed in range(20)]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = [augment(image, seed) for seed in range(20)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(image, before)
    for one, other in zip(first, again, strict=True):
        assert one.shape == (3, 12, 12)
        assert one.dtype == torch.uint8
        assert torch.equal(one, other)
    assert len({bytes(one.contiguous().numpy()) for one in first}) > (0 if name == "none" else 1)
    assert torch.equal(pickle.loads(pickle.dumps(augment))(image, 3), first[3])


def test_the_generators_of_gpus_are_left_alone(monkeypatch):
    def refuse(seed):
        raise AssertionError("the random state of the GPUs was changed")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    build_augmentation("standard", 8)(noise(), 3)


def test_crop_flip_takes_every_crop_of_the_padded_image_about_equally_often():
    image = noise(6, 7)
    padded = F.pad(image, [4, 4, 4, 4])
    crops = {}
    for top in range(9):
        for left in range(10):
            crop = padded[:, top : top + 6, left : left + 6]
            crops[bytes(crop.contiguous().numpy())] = (top, left, 0)
            crops[bytes(crop.flip(-1).contiguous().numpy())] = (top, left, 1)
    assert len(crops) == 180
    augment = build_augmentation("crop_flip", 6)
    seen = torch.zeros(9, 10, 2)
    for seed in range(5400):
        seen[crops[bytes(augment(image, seed).contiguous().numpy())]] += 1
    assert seen.min() > 0
    for counts in (seen.sum((1, 2)), seen.sum((0, 2)), seen.sum((0, 1))):
        expected = 5400 / len(counts)
        assert ((counts - expected) ** 2 / expected).sum() < 30


@pytest.mark.parametrize("shape", [(8, 8), (8, 11), (9, 8), (13, 8)])
def test_the_centre_crop_is_torchvisions(shape):
    assert torch.equal(centre_crop(noise(*shape), 8), v2.functional.center_crop(noise(*shape), [8, 8]))


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match=r"augmentation must be one of none, flip, crop_flip, .*, not 'mixup'"):
        build_augmentation("mixup", 8)


def test_a_resized_crop_shows_a_part_of_the_image_at_full_size():
    ramp = torch.arange(60).repeat(60, 1)[None].repeat(3, 1, 1).to(torch.uint8)  # the value is the column
    augment = build_augmentation("resized_crop", 60)
    plain = type(augment)(60)
    plain.transform = v2.Compose(augment.transform.transforms[:2])  # without the colours
    widths = []
    for seed in range(200):
        seen = plain(ramp, seed)[0, 0].float()
        widths.append(float((seen.max() - seen.min() + 1) / 60))
    assert 0.5 < min(widths) < 0.62  # √0.35 at a ratio of 3:4 is 0.51
    assert max(widths) > 0.97
    flipped = sum(bool(plain(ramp, seed)[0, 0, 0] > plain(ramp, seed)[0, 0, -1]) for seed in range(200))
    assert 70 < flipped < 130
