"""Layers that give channels last or tokens: Grad-CAM against the formula written out in the layer's own layout."""

import pytest
import timm
import torch
from torch import nn

from handful.attribution import attribute
from handful.errors import UserError
from handful.networks import build_classifier
from handful.networks.layouts import Layout, layout_of

SIDE = 64


@pytest.fixture(scope="module", params=["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def transformer(request):
    torch.manual_seed(0)
    return build_classifier({"backbone": request.param, "image_size": SIDE}, 5).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def by_hand(model, layer, images, target, prefix=None):
    """Σ α A over the last axis, the spatial axes kept; tokens' `prefix` cut off."""
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, output: kept.append(output))
    score = model(images)[:, target].sum()
    handle.remove()
    gradient = torch.autograd.grad(score, kept[0])[0]
    maps = kept[0].detach()
    if prefix is not None:
        maps, gradient = maps[:, prefix:], gradient[:, prefix:]
    axes = tuple(range(1, maps.ndim - 1))
    return (maps * gradient.mean(dim=axes, keepdim=True)).sum(dim=-1).relu()


def test_mean_of_cam_plus_bias_is_the_logit(transformer, images):
    found = attribute(transformer, images, "top2", method="cam")
    bias = transformer.head.class_weights()[1]
    torch.testing.assert_close(found.raw.mean(dim=(2, 3)) + bias[found.targets], found.scores, rtol=1e-4, atol=1e-4)


def test_the_last_layer_by_name_is_the_feature_maps(transformer, images):
    by_name = attribute(transformer, images, 1, method="gradcam", layer="backbone.net.norm").raw
    torch.testing.assert_close(by_name, attribute(transformer, images, 1, method="gradcam").raw)
    assert by_name.max() > 0


def test_an_inner_layer_of_swin(images):
    torch.manual_seed(1)
    model = build_classifier({"backbone": "swin_tiny_patch4_window7_224", "image_size": SIDE}, 5).eval()
    mine = attribute(model, images, 2, method="gradcam", layer="backbone.net.layers.1").raw
    torch.testing.assert_close(mine, by_hand(model, "backbone.net.layers.1", images, 2))
    assert mine.shape == (3, 8, 8)


def test_an_inner_layer_of_vit(images):
    torch.manual_seed(1)
    model = build_classifier({"backbone": "vit_tiny_patch16_224", "image_size": SIDE}, 5).eval()
    mine = attribute(model, images, 2, method="gradcam", layer="backbone.net.blocks.5").raw
    torch.testing.assert_close(mine.flatten(1), by_hand(model, "backbone.net.blocks.5", images, 2, prefix=1))
    assert mine.shape == (3, 4, 4)


def test_channels_last_inside_a_channels_first_network(images):
    torch.manual_seed(1)
    model = build_classifier({"backbone": "convnext_tiny"}, 5).eval()
    layer, tall = "backbone.net.stages.1.blocks.0.mlp.fc1", nn.functional.interpolate(images, (96, 64))
    mine = attribute(model, tall, 0, method="gradcam", layer=layer).raw
    torch.testing.assert_close(mine, by_hand(model, layer, tall, 0))
    assert mine.shape == (3, 12, 8)


def test_heads_of_attention_are_no_maps(images):
    model = timm.create_model("vit_tiny_patch16_224", img_size=SIDE, num_classes=2).eval()
    assert layout_of(torch.zeros(1, 3, 17, 64), (SIDE, SIDE), model) is None
    found = attribute(model, images, 0, method="gradcam")
    assert found.raw.shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("shape", "size", "kind"),
    [
        ((2, 8, 7, 7), (224, 224), "NCHW"),
        ((2, 7, 7, 768), (224, 224), "NHWC"),
        ((2, 64, 64, 64), (64, 64), "NCHW"),
        ((2, 14, 7, 512), (448, 224), "NHWC"),
        ((2, 512, 1, 1), (64, 64), "NCHW"),
    ],
)
def test_the_layout_is_read_off_the_proportions(shape, size, kind):
    layout = layout_of(torch.zeros(shape), size, nn.Identity())
    assert layout.kind == kind


def test_where_the_proportions_say_nothing_the_model_does():
    model = nn.Identity()
    assert layout_of(torch.zeros(2, 64, 64, 64), (64, 64), model).kind == "NCHW"
    model.output_fmt = "NHWC"
    assert layout_of(torch.zeros(2, 64, 64, 64), (64, 64), model).kind == "NHWC"


def test_tokens_are_read_by_the_models_grid():
    model = nn.Identity()
    model.patch_embed, model.num_prefix_tokens = nn.Identity(), 1
    model.patch_embed.grid_size = (2, 3)
    assert layout_of(torch.zeros(1, 7, 5), (64, 96), model) == Layout("tokens", (2, 3), 1)
    assert layout_of(torch.zeros(1, 6, 5), (64, 96), model) == Layout("tokens", (2, 3), 0)
    assert layout_of(torch.zeros(1, 9, 5), (64, 96), model) is None


def test_reading_and_writing_back_are_inverse():
    for layout, shape in (
        (Layout("NCHW"), (2, 5, 3, 4)),
        (Layout("NHWC"), (2, 3, 4, 5)),
        (Layout("tokens", (3, 4), 1), (2, 13, 5)),
    ):
        output = torch.randn(shape)
        maps = layout.maps(output)
        assert maps.shape == (2, 5, 3, 4)
        torch.testing.assert_close(layout.output(maps, output), output)


class Tokens(nn.Module):
    """Tokens of 8 × 8 pixels and `prefix` before them, from a network that declares no grid."""

    def __init__(self, prefix, shuffle=False):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 6, 8, 8)
        self.before = nn.Parameter(torch.randn(1, prefix, 6))
        self.order = torch.randperm(32) if shuffle else torch.arange(32)
        self.inner = nn.Linear(6, 4)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)[:, self.order]
        tokens = torch.cat([self.before.expand(len(x), -1, -1), tokens], dim=1)
        return self.inner(tokens).mean(dim=1)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_the_grid_of_a_network_that_declares_none_is_found(images, prefix):
    model, wide = Tokens(prefix).eval(), nn.functional.interpolate(images, (32, 64))
    found = attribute(model, wide, 0, method="gradcam")
    assert found.layer == "inner"
    assert found.raw.shape == (3, 4, 8)
    torch.testing.assert_close(found.raw.flatten(1), by_hand(model, "inner", wide, 0, prefix=prefix))


def test_tokens_in_another_order_than_the_image_are_refused(images):
    model, wide = Tokens(1, shuffle=True).eval(), nn.functional.interpolate(images, (32, 64))
    with pytest.raises(UserError, match=r"gives \(3, 33, 4\), whose positions are not those of the image"):
        attribute(model, wide, 0, method="gradcam", layer="inner")
    assert attribute(model, wide, 0, method="gradcam").layer == "embed"
