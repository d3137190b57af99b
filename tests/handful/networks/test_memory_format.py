"""Channels innermost in memory: the same numbers, and weights as they are."""

import pytest
import torch

from handful.networks import backbone as backbones
from handful.networks import build_classifier


@pytest.mark.parametrize("backbone", ["cifar_resnet20", "conv4", "resnet18", "tf_efficientnet_lite0", "convnext_atto"])
def test_the_numbers_are_those_of_images_in_the_usual_order(backbone, monkeypatch):
    torch.manual_seed(0)
    model = build_classifier({"backbone": backbone}, 3).eval()
    images = torch.randn(2, 3, 64, 64)
    maps = model.feature_maps(images)
    assert maps.is_contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(backbones, "for_convolutions", lambda x: x)
    torch.testing.assert_close(maps, model.feature_maps(images), rtol=1e-3, atol=1e-4)
    assert all(value.is_contiguous() for value in model.state_dict().values())


def test_a_network_of_tokens_gets_its_images_as_they_are(monkeypatch):
    def refuse(images):
        raise AssertionError

    monkeypatch.setattr(backbones, "for_convolutions", refuse)
    model = build_classifier({"backbone": "test_vit", "image_size": 160}, 3).eval()
    assert model.feature_maps(torch.zeros(1, 3, 160, 160)).shape[0] == 1
