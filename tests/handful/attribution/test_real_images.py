"""The public ResNet-20 on real CIFAR-10 images."""

import zipfile

import pytest
import torch

from handful.attribution import attribute, contributions
from handful.images import read_image
from handful.networks import build_classifier, load_weights
from handful.networks.build import IMAGENET_MEAN, IMAGENET_STD


@pytest.fixture
def model_and_images(real_data):
    model = build_classifier({"backbone": "cifar_resnet20"}, 10)
    load_weights(model, real_data / "resnet20_cifar10.pth")
    with zipfile.ZipFile(real_data / "cifar10.zip") as files:
        names = sorted(name for name in files.namelist() if name.startswith("test/") and name.endswith(".png"))
        classes = sorted({name.split("/")[1] for name in names})
        chosen = [next(name for name in names if name.split("/")[1] == label) for label in classes]
        images = [torch.tensor(read_image(files.read(name), name)).permute(2, 0, 1) for name in chosen]
        pixels = torch.stack(images) / 255
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (IMAGENET_MEAN, IMAGENET_STD))
    return model, (pixels - mean) / std


def test_a_good_network_gives_maps_that_add_up(model_and_images):
    model, x = model_and_images
    cam = attribute(model, x, "label", labels=torch.arange(10), method="cam")
    assert (cam.predictions == torch.arange(10)).sum() >= 8
    assert cam.completeness.abs().max() < 1e-4
    parts = contributions(model, x)
    torch.testing.assert_close(parts.values.sum(1) + parts.bias, parts.logits.amax(1), rtol=0, atol=1e-4)


def test_integrated_gradients_are_completer_with_more_steps(model_and_images):
    model, x = model_and_images
    missed = [
        attribute(model, x[:4], method="integrated_gradients", baseline="blur", steps=steps).completeness.abs().mean()
        for steps in (8, 64)
    ]
    assert missed[1] < 0.5 * missed[0]


def test_lrp_relevance_is_of_the_size_of_the_score(model_and_images):
    model, x = model_and_images
    found = attribute(model, x, method="lrp")
    assert (found.raw.sum(dim=(1, 2, 3)).abs() < 3 * found.scores.abs()).all()
