"""Batch norms become part of convolutions where that changes nothing, and only there."""

import pytest
import torch
from torch import nn

from handful.attribution import attribute
from handful.attribution.folded import folded
from handful.networks import build_classifier

SIZE = (3, 32, 32)


def settled(model):
    """Statistics as after some training, so that a norm left out would be seen."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()


def norms(model):
    return sum("BatchNorm" in type(module).__name__ for module in model.modules())


@pytest.mark.parametrize("backbone", ["cifar_resnet20", "conv4", "resnet18", "tf_efficientnet_lite0"])
def test_networks_keep_their_function(backbone):
    model = settled(build_classifier({"backbone": backbone, "image_size": 32}, 3))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fast = folded(model, SIZE)
    images = torch.randn(4, *SIZE)
    assert fast is not model
    assert norms(fast) == 0 < norms(model)
    with torch.no_grad():
        torch.testing.assert_close(fast(images), model(images), rtol=1e-4, atol=1e-4)
    assert all(value.equal(model.state_dict()[key]) for key, value in before.items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class Twice(nn.Module):
    """What its convolution returns is used beside the batch norm as well."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, images):
        found = self.conv(images)
        return (found + self.norm(found)).mean(dim=(2, 3))


class Changed(Twice):
    """What its convolution returns is changed in place before it is normalised."""

    def forward(self, images):
        return self.norm(self.conv(images).mul_(2)).mean(dim=(2, 3))


class Again(Twice):
    """One convolution runs twice."""

    def forward(self, images):
        return self.norm(self.conv(self.conv(images))).mean(dim=(2, 3))


@pytest.mark.parametrize("kind", [Twice, Changed, Again])
def test_what_cannot_be_folded_stays(kind):
    model = settled(kind())
    assert folded(model, SIZE) is model


def test_norms_that_do_more_stay():
    hooked, parametrized = nn.Conv2d(3, 4, 1), nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1))
    hooked.register_forward_hook(lambda *_: None)
    for layers in (
        [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)],
        [parametrized, nn.BatchNorm2d(4)],
        [hooked, nn.BatchNorm2d(4)],
        [nn.BatchNorm2d(3)],
        [nn.Conv2d(3, 4, 1)],
    ):
        model = settled(nn.Sequential(*layers))
        assert folded(model, SIZE) is model


@pytest.mark.parametrize("method", ["integrated_gradients", "smoothgrad"])
def test_maps_are_those_of_the_network_as_it_is(method):
    model = settled(build_classifier({"backbone": "cifar_resnet20", "options": {"width": 4}}, 3))
    images = torch.randn(3, *SIZE)
    fast = attribute(model, images, 1, method=method, image_ids=[0, 1, 2])
    slow = attribute(lambda x: model(x), images, 1, method=method, image_ids=[0, 1, 2])  # a function is not folded
    torch.testing.assert_close(fast.raw, slow.raw, rtol=1e-3, atol=1e-3 * float(slow.raw.abs().max()))
    assert fast.logits.equal(slow.logits)


def test_known_maps_spare_the_pass():
    model = settled(build_classifier({"backbone": "cifar_resnet20", "options": {"width": 4}}, 3))
    images, runs = torch.randn(3, *SIZE), []
    with torch.no_grad():
        maps = model.feature_maps(images)
    model.backbone.register_forward_hook(lambda *_: runs.append(1))
    found = attribute(model, images, method="cam", maps=maps)
    assert runs == []
    again = attribute(model, images, method="cam")
    assert found.raw.equal(again.raw)
    assert found.logits.equal(again.logits)
    assert found.completeness.equal(again.completeness)
