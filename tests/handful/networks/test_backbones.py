"""Every backbone behind the one contract: NCHW maps, spatial mean, linear head."""

import pytest
import timm
import torch

from handful.errors import UserError
from handful.networks import build_classifier, input_statistics
from handful.networks.timm_backbone import TimmBackbone


@pytest.mark.parametrize(
    ("name", "side", "features", "grid"),
    [
        ("resnet50", 64, 2048, (2, 2)),
        ("densenet121", 64, 1024, (2, 2)),
        ("inception_v3", 107, 2048, (2, 2)),
        ("convnext_atto", 64, 320, (2, 2)),
        ("swin_tiny_patch4_window7_224", 64, 768, (2, 2)),
        ("vit_tiny_patch16_224", 64, 192, (4, 4)),
    ],
)
def test_contract(name, side, features, grid):
    classifier = build_classifier({"backbone": name, "image_size": side}, 5).eval()
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        maps = classifier.feature_maps(images)
        logits = classifier(images)
        weight, bias = classifier.head.class_weights()
    assert classifier.num_features == features
    assert maps.shape == (2, features, *grid)
    torch.testing.assert_close(logits, classifier.head(classifier.pool(maps)))
    cam = torch.einsum("cf,bfhw->bchw", weight, maps)
    torch.testing.assert_close(cam.mean(dim=(2, 3)) + bias, logits, rtol=1e-4, atol=1e-4)
    # data-parallel training refuses a parameter without a gradient
    classifier(images).sum().backward()
    assert [n for n, p in classifier.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize(("name", "prefix"), [("swin_tiny_patch4_window7_224", None), ("vit_tiny_patch16_224", 1)])
def test_layouts_keep_places(name, prefix):
    """Row and column of the map are row and column of the picture, for NHWC and token layouts."""
    backbone = TimmBackbone(name, in_size=64).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        raw = backbone.net.forward_features(images)
        maps = backbone(images)
    rows, columns = maps.shape[2:]
    for i in range(rows):
        for j in range(columns):
            expected = raw[0, i, j] if prefix is None else raw[0, prefix + i * columns + j]
            torch.testing.assert_close(maps[0, :, i, j], expected)


def test_reduced_strides_are_strides_not_dilation():
    torch.manual_seed(0)
    plain = TimmBackbone("resnet18").eval()
    reduced = TimmBackbone("resnet18", reduced_strides=True).eval()
    reduced.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert plain(images).shape[2:] == (2, 2)
        assert reduced(images).shape[2:] == (8, 8)
    assert all(m.dilation == (1, 1) for m in reduced.modules() if isinstance(m, torch.nn.Conv2d))


def test_reduced_strides_only_where_they_exist():
    with pytest.raises(UserError, match="only ResNets"):
        TimmBackbone("densenet121", reduced_strides=True)


def test_no_spatial_map_is_refused(monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: _Flat())
    with pytest.raises(UserError, match="no spatial feature map"):
        TimmBackbone("resnet18")


class _Flat(torch.nn.Module):
    pretrained_cfg = {"input_size": (3, 32, 32)}  # noqa: RUF012

    def forward_features(self, images):
        return images.mean(dim=(2, 3))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_built_where_gradients_are_off(mode):
    with mode():
        built = TimmBackbone("resnet18", in_size=32)
    assert sum(not p.requires_grad for p in built.parameters()) == 0


def test_unknown_backbone_names_neighbours():
    with pytest.raises(UserError, match=r"no model 'resnet5'; did you mean resnet50"):
        build_classifier({"backbone": "resnet5"}, 3)
    with pytest.raises(UserError, match="cifar_resnet21"):
        build_classifier({"backbone": "cifar_resnet21"}, 3)
    with pytest.raises(UserError, match="unknown key 'bacbone'"):
        build_classifier({"bacbone": "resnet18"}, 3)


def test_input_statistics_are_the_backbones_own():
    assert input_statistics({"backbone": "inception_v3"})[0] == (0.5, 0.5, 0.5)
    assert input_statistics({"backbone": "resnet18"})[0] == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_cifar_resnets_count_parameters_as_published(depth):
    """He et al. (2016), table 6, in millions."""
    published = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}[depth]
    classifier = build_classifier({"backbone": f"cifar_resnet{depth}"}, 10)
    millions = sum(p.numel() for p in classifier.parameters()) / 1e6
    assert millions == pytest.approx(published, abs=0.05)
    assert classifier.feature_maps(torch.randn(1, 3, 32, 32)).shape == (1, 64, 8, 8)


def test_another_size_than_a_network_was_built_for_is_a_sentence():
    """Where timm does not check it, torch's own error of two sides that do not match came through."""
    model = build_classifier({"backbone": "levit_conv_128s", "image_size": 64}, 3).eval()
    with torch.no_grad(), pytest.raises(UserError, match="levit_conv_128s does not take 96 × 96 images"):
        model(torch.zeros(1, 3, 96, 96))
