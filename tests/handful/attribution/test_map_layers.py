"""Grad-CAM's layer: it depends on the image, carries the score's gradient, and its positions are the image's."""

import pytest
import timm
import torch
from torch import nn

from handful.attribution import attribute
from handful.attribution.map_layers import default_map_layer, named_map_layer
from handful.attribution.state import undisturbed
from handful.errors import UserError
from tests.handful.attribution.nets import images

#: Published architectures, made small: name, side, options, the layer that is expected, its grid.
SMALL = [
    ("vit_tiny_patch16_224", 64, {"img_size": 64, "depth": 3}, "blocks.2.norm1", (4, 4)),
    ("vit_tiny_patch16_224", 64, {"img_size": 64, "depth": 2, "global_pool": "avg"}, "norm", (4, 4)),
    ("deit_tiny_distilled_patch16_224", 64, {"img_size": 64, "depth": 3}, "blocks.2.norm1", (4, 4)),
    ("vit_small_patch14_reg4_dinov2", 56, {"img_size": 56, "depth": 2, "embed_dim": 48, "num_heads": 3},
     "blocks.1.norm1", (4, 4)),
    ("beit_base_patch16_224", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3}, "norm", (4, 4)),
    ("eva02_tiny_patch14_224", 56, {"img_size": 56, "depth": 2}, "norm", (4, 4)),
    ("swin_tiny_patch4_window7_224", 64, {"img_size": 64, "depths": (1, 1, 2), "embed_dim": 24}, "norm", (4, 4)),
    ("swinv2_tiny_window8_256", 64, {"img_size": 64, "depths": (1, 1, 2), "embed_dim": 24, "num_heads": (1, 2, 4),
     "window_size": 4}, "norm", (4, 4)),
    ("maxvit_rmlp_pico_rw_256", 64, {"img_size": 64}, "norm", (2, 2)),
    ("poolformer_s12", 96, {}, "stages", (3, 3)),
    ("convnext_atto", 96, {}, "norm_pre", (3, 3)),
    ("mobilevit_xxs", 128, {}, "final_conv", (4, 4)),
    ("pvt_v2_b0", 96, {}, "stages", (3, 3)),
    ("xcit_nano_12_p16_224", 96, {"depth": 2}, None, (6, 6)),
    ("efficientnet_lite0", 96, {}, None, (3, 3)),
    ("vgg11", 64, {}, "features", (2, 2)),
    ("densenet121", 64, {}, "features", (2, 2)),
    ("resnet18", 96, {}, "layer4", (3, 3)),
    ("ghostnet_050", 96, {}, "blocks", (3, 3)),
    ("starnet_s050", 96, {}, "norm", (3, 3)),
    ("edgenext_xx_small", 96, {}, "norm_pre", (3, 3)),
    ("efficientvit_b0", 96, {}, "head.in_conv", (3, 3)),
    ("mambaout_femto", 96, {"depths": (1, 1, 2, 1)}, "stages", (3, 3)),
]  # fmt: skip


@pytest.fixture(scope="module", params=SMALL, ids=lambda case: case[0])
def architecture(request):
    name, side, options, layer, grid = request.param
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **options).eval()
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with undisturbed(model):
        return model, x, default_map_layer(model, x), layer, grid


def maps_of(model, found, x):
    kept = []
    layer = model.get_submodule(found.name)
    handle = layer.register_forward_hook(lambda m, i, out: kept.append(found.layout.maps(out)))
    with torch.no_grad():
        model(x)
    handle.remove()
    return kept[0]


def test_published_networks_have_a_layer_on_their_own_grid(architecture):
    model, x, found, expected, grid = architecture
    maps = maps_of(model, found, x)
    assert tuple(maps.shape[2:]) == grid
    assert expected is None or found.name == expected
    # an independent look: a patch of the image changes its own cell more than the cells of the opposite corner
    height, width = grid
    changes = []
    for corner in ((0, 0), (height - 1, width - 1)):
        other = x.clone()
        rows, columns = (
            slice(c * side // n, (c + 1) * side // n) for c, side, n in zip(corner, x.shape[2:], grid, strict=True)
        )
        other[:, :, rows, columns] = -x[:, :, rows, columns]
        change = (maps_of(model, found, other) - maps).pow(2).sum(dim=(0, 1))
        changes.append(change / change.sum())
    first, last = (torch.stack([change[0, 0], change[-1, -1]]) for change in changes)
    assert first[0] / first[1] > last[0] / last[1]


def test_a_map_of_zeros_is_the_sign_of_the_sum_and_not_of_the_layer():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=64, depth=2).eval()
    x = images(3, size=64)
    found = attribute(model, x, "top3", method="gradcam")
    assert found.layer == "blocks.1.norm1"
    assert found.raw.flatten(1).amax(1).min() > 0


class ClassToken(nn.Module):
    """A class token that reads the patches by attention; its last block changes patches that nobody reads again."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.position = nn.Identity()
        self.table = nn.Parameter(torch.randn(1, 17, 8))
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.attention = nn.Identity()
        self.value = nn.Linear(8, 8)
        self.unread = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        patches = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1)
        table = self.position(self.table.expand(len(x), -1, -1))
        tokens = tokens + table
        weights = self.attention((tokens @ tokens.transpose(1, 2)).softmax(-1)[:, None])
        tokens = tokens + weights[:, 0] @ self.value(tokens)
        return self.head(self.unread(tokens)[:, 0])


#: Networks that timm builds with a last layer of zeros: name, side, options, head, layer, grid.
ZEROS = [
    ("mixer_s32_224", 96, {"img_size": 96}, "head", "norm", (3, 3)),
    ("resmlp_12_224", 64, {"img_size": 64}, "head", "norm", (4, 4)),
    ("hiera_tiny_224", 64, {"img_size": (64, 64), "stages": (1,) * 4, "embed_dim": 24}, "head.fc", "blocks.3", (2, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "side", "options", "head", "layer", "grid"), ZEROS, ids=[case[0] for case in ZEROS])
def test_a_last_layer_of_zeros_is_said_and_a_filled_one_shows_the_layer(name, side, options, head, layer, grid):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **options).eval()
    nn.init.zeros_(model.get_submodule(head).weight)
    x = images(size=side)
    with pytest.raises(UserError, match=rf'no score of this model changes with the image.*layer="{layer}"'):
        attribute(model, x, 0, method="gradcam")
    nn.init.normal_(model.get_submodule(head).weight)
    found = attribute(model, x, 0, method="gradcam")
    assert found.layer == layer
    assert found.raw.shape == (3, *grid)
    assert found.raw.flatten(1).amax(1).min() > 0
    by_name = attribute(model, x, 0, method="gradcam", layer=layer)
    torch.testing.assert_close(by_name.raw, found.raw)


def test_tokens_on_the_grid_of_the_declared_stride_are_the_networks_last_maps():
    """Attention over all of a few tokens leaves nothing of their places to see."""
    torch.manual_seed(0)
    model = timm.create_model("levit_128s", num_classes=5, img_size=128).eval()
    found = attribute(model, images(1, size=128), 0, method="gradcam")
    assert (found.layer, found.raw.shape) == ("stages", (1, 2, 2))


def test_attention_tables_and_unread_tokens_are_not_taken():
    model, x = ClassToken().eval(), images(size=16)
    found = attribute(model, x, 0, method="gradcam")
    assert found.layer == "value"
    assert found.raw.shape == (3, 4, 4)
    assert found.raw.max() > 0


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        ("attention", "whose positions are not those of the image"),
        ("position", "gives the same for every image"),
        ("unread", r'does not depend on layer "unread" for any of the images'),
        ("head", r"gives \(3, 3\), not maps"),
    ],
)
def test_layers_that_show_nothing_are_a_sentence(layer, sentence):
    with pytest.raises(UserError, match=sentence):
        attribute(ClassToken().eval(), images(size=16), 0, method="gradcam", layer=layer)


class Branches(nn.Module):
    """Class 0 reads the left branch alone, class 1 the right one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return torch.stack([self.left(x).mean(dim=(1, 2, 3)), self.right(x).mean(dim=(1, 2, 3))], dim=1)


def test_a_score_that_does_not_depend_on_the_layer_is_said():
    model, x = Branches(), images()
    assert attribute(model, x, 0, method="gradcam", layer="left").raw.shape == (3, 12, 12)
    with pytest.raises(UserError, match='does not depend on layer "right"'):
        attribute(model, x, 0, method="gradcam", layer="right")
    with pytest.raises(UserError, match='does not depend on layer "right"'):
        attribute(model, x, torch.tensor([[1, 0]] * 3), method="gradcam", layer="right")
    with pytest.warns(UserWarning, match="for 2 of 3 images; their maps are zero"):
        attribute(model, x, [1, 0, 0], method="gradcam", layer="right")


def test_a_model_whose_score_depends_on_no_map_is_said():
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.ignored, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(3, 2)

        def forward(self, x):
            self.ignored(x)
            return self.linear(x.mean(dim=(2, 3)))

    with pytest.raises(UserError, match="no layer of this model gives maps"):
        attribute(Mean(), images(), 0, method="gradcam")


def test_maps_of_a_layer_that_runs_twice_are_not_said_to_be_missing():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 3, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.linear(torch.relu(self.conv(torch.relu(self.conv(x)))).mean(dim=(2, 3)))

    with pytest.raises(UserError, match=r'that its score depends on \("conv" runs more than once\): Grad-CAM has'):
        attribute(Shared(), images(), 0, method="gradcam")


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_planted_cue_is_found_without_naming_a_layer(corner):
    """The score is the brightness of red, wherever it is; the map's maximum is where it was planted."""
    model = nn.Sequential(
        nn.Conv2d(3, 2, 4, 4, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2, bias=False)
    )
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[0, 0] = 1
        model[0].weight[1, 2] = 1
        model[4].weight.copy_(torch.eye(2))
    x = torch.zeros(1, 3, 16, 16)
    rows, columns = (slice(4 + 8 * c - 4 * c, 8 + 8 * c - 4 * c) for c in corner)
    x[0, 0, rows, columns] = 3
    raw = attribute(model, x, 0, method="gradcam").raw[0]
    assert divmod(int(raw.argmax()), 4) == (1 + corner[0], 1 + corner[1])


def test_the_choice_depends_on_the_model_and_the_size_alone():
    model = timm.create_model("convnext_atto", num_classes=3).eval()
    with undisturbed(model):
        chosen = {default_map_layer(model, x) for x in (torch.zeros(1, 3, 64, 64), torch.randn(3, 3, 64, 64))}
        assert len(chosen) == 1
        found = chosen.pop()
        assert named_map_layer(model, torch.zeros(1, 3, 64, 64), found.name) == found
