"""The feature map lights up where the cue is: tokens, channels last, sizes other than square, sizes met later."""

import pytest
import torch
from torch import nn

from handful.errors import UserError
from handful.networks import Classifier, DenseHead, build_classifier
from handful.networks.build import build_backbone
from handful.networks.layouts import Layout, layout_of, output_layout
from handful.networks.timm_backbone import TimmBackbone


def brightest_cell(backbone, size, cell, channels=3):
    """The grid, and the cell where the maps differ most between an empty image and one with a cue in `cell`."""
    images = torch.zeros(1, channels, *size)
    with torch.no_grad():
        empty = backbone(images)
        h, w = empty.shape[2:]
        rows = slice(size[0] * cell[0] // h, size[0] * (cell[0] + 1) // h)
        columns = slice(size[1] * cell[1] // w, size[1] * (cell[1] + 1) // w)
        cue = torch.randn(images[:, :, rows, columns].shape, generator=torch.Generator().manual_seed(0))
        images[:, :, rows, columns] = 3 * cue
        change = (backbone(images) - empty).norm(dim=1)[0]
    return (h, w), divmod(int(change.argmax()), w)


VIT = "vit_tiny_patch16_224"


@pytest.mark.parametrize(
    ("name", "built", "used", "options", "grid"),
    [
        (VIT, 64, (64, 64), {"depth": 2}, (4, 4)),
        (VIT, (64, 128), (64, 128), {"depth": 2}, (4, 8)),
        # met later: another size, the same number of tokens in another shape, a size that is padded
        (VIT, 64, (48, 96), {"depth": 2, "dynamic_img_size": True}, (3, 6)),
        (VIT, 96, (48, 192), {"depth": 2, "dynamic_img_size": True}, (3, 12)),
        (VIT, 96, (108, 140), {"depth": 2, "dynamic_img_size": True, "dynamic_img_pad": True}, (7, 9)),
        # class token, distillation token, registers, no declared grid
        ("deit_tiny_distilled_patch16_224", (96, 64), (96, 64), {"depth": 2}, (6, 4)),
        ("vit_small_patch14_reg4_dinov2", (42, 70), (42, 70), {"depth": 1}, (3, 5)),
        ("cait_xxs24_224", (64, 96), (64, 96), {"depth": 1}, (4, 6)),
        ("hiera_tiny_224", (96, 160), (96, 160), {}, (3, 5)),
        # channels last, declared
        ("swin_tiny_patch4_window7_224", (96, 160), (96, 160), {"depths": (1, 1, 1, 1)}, (3, 5)),
        ("swin_tiny_patch4_window7_224", 96, (96, 160), {"depths": (1, 1, 1, 1), "strict_img_size": False}, (3, 5)),
    ],
)
def test_the_map_lights_up_where_the_cue_is(name, built, used, options, grid):
    torch.manual_seed(1)
    backbone = TimmBackbone(name, in_size=built, **options).eval()
    for cell in ((1, 2), (grid[0] - 1, grid[1] - 1)):
        assert brightest_cell(backbone, used, cell) == (grid, cell)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", ["cifar_resnet20", "conv4", "resnet18", VIT])
def test_other_channel_counts(name, channels):
    config = {"backbone": name, "image_size": [32, 64], "options": {"in_chans": channels}}
    classifier = build_classifier(config, 3).eval()
    images = torch.randn(2, channels, 32, 64)
    assert classifier(images).shape == (2, 3)
    with pytest.raises(UserError, match=rf"images of {channels} channels, not 3; .*in_chans=3"):
        classifier(images[:, :1].expand(-1, 3, -1, -1))


def test_a_size_that_a_network_was_not_built_for_is_refused():
    classifier = build_classifier({"backbone": VIT, "image_size": 32, "options": {"depth": 1}}, 3).eval()
    with pytest.raises(UserError, match=r"does not take 48 × 64 images .*network.image_size"):
        classifier(torch.randn(1, 3, 48, 64))


class Undeclared(nn.Module):
    """A network of tokens that says nothing about its grid: patches of 8 pixels behind a class token."""

    pretrained_cfg = {"input_size": (3, 32, 32), "fixed_input_size": True}  # noqa: RUF012
    num_features = 6

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 8, stride=8)

    def forward_features(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1)


def test_a_grid_can_be_given(monkeypatch):
    monkeypatch.setattr("timm.create_model", lambda *a, **k: Undeclared())
    with pytest.raises(UserError, match=r"33 tokens .* give them with network.grid"):
        TimmBackbone("resnet18", in_size=(32, 64))
    with pytest.raises(UserError, match=r"network.grid 8 × 4 does not account for") as caught:
        build_backbone({"backbone": "resnet18", "image_size": [32, 72], "grid": [8, 4]})
    assert "37 tokens" in str(caught.value)
    backbone = build_backbone({"backbone": "resnet18", "image_size": [32, 64], "grid": [4, 8]}).eval()
    assert brightest_cell(backbone, (32, 64), (1, 6)) == ((4, 8), (1, 6))
    assert brightest_cell(backbone, (64, 32), (6, 1)) == ((8, 4), (6, 1))  # as many pixels a token
    # attribution reads the same network's layers with the same grid
    tokens = backbone.net.forward_features(torch.zeros(1, 3, 64, 32))
    assert layout_of(tokens, (64, 32), backbone) == Layout("tokens", (8, 4), 1)


@pytest.mark.parametrize("given", [[4], [4, 0], [4, 4, 4], [2.5, 4]])
def test_a_grid_that_is_none(given):
    with pytest.raises(UserError, match=r"network.grid: two whole numbers"):
        build_backbone({"backbone": VIT, "grid": given})
    with pytest.raises(UserError, match=r"network.image_size: two whole numbers"):
        build_backbone({"backbone": VIT, "image_size": given})


def test_channels_last_without_a_declaration_is_known_by_the_number_of_features():
    class Net(nn.Module):
        num_features = 5

    assert output_layout(torch.zeros(1, 2, 3, 5), (64, 96), Net()) == Layout("NHWC")
    assert output_layout(torch.zeros(1, 5, 2, 3), (64, 96), Net()) == Layout("NCHW")
    assert output_layout(torch.zeros(1, 5, 2, 5), (64, 160), Net()) == Layout("NCHW")


@pytest.mark.parametrize("name", ["pit_ti_224", "crossvit_tiny_240", "coat_tiny"])
def test_published_networks_without_a_map_are_refused(name):
    with pytest.raises(UserError, match="no spatial feature map"):
        TimmBackbone(name)


class Gives(nn.Module):
    """A backbone from elsewhere that gives whatever it was asked to."""

    num_features = 4

    def __init__(self, give):
        super().__init__()
        self.give = give

    def forward(self, images):
        return self.give(len(images))


@pytest.mark.parametrize(
    ("give", "sentence"),
    [
        (lambda n: torch.zeros(n, 4), "without a spatial map"),
        (lambda n: torch.zeros(n, 9, 4), "without a spatial map"),
        (lambda n: torch.zeros(n, 4, 0, 2), "without a spatial map"),
        (lambda n: torch.zeros(1, 4, 2, 2), "without a spatial map"),
        (lambda n: torch.zeros(n, 4, 2, 2).long(), "without a spatial map"),
        (lambda n: {"maps": torch.zeros(n, 4, 2, 2)}, "gives a dict"),
        (lambda n: [torch.zeros(n, 4, 2, 2)], "gives a list"),
        (lambda n: torch.zeros(n, 2, 3, 4), "channels last"),
        (lambda n: torch.zeros(n, 5, 2, 2), "its num_features is 4"),
    ],
)
def test_what_a_backbone_gives_is_checked(give, sentence):
    classifier = Classifier(Gives(give), DenseHead(4, 3))
    with pytest.raises(UserError, match=sentence):
        classifier(torch.zeros(3, 3, 8, 8))


@pytest.mark.parametrize("images", [torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)])
def test_images_are_checked(images):
    classifier = build_classifier({"backbone": "conv4"}, 3)
    with pytest.raises(UserError, match="images must be floating point"):
        classifier(images)


def test_a_backbone_must_say_how_many_maps_it_gives():
    classifier = Classifier(nn.Conv2d(3, 4, 3), DenseHead(4, 3))
    with pytest.raises(UserError, match="Conv2d must have num_features"):
        _ = classifier.num_features
