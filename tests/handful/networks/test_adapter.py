"""A small network behind a backbone: what it gives, what it is built from, what is refused, how it is loaded."""

import pytest
import torch

import handful
from handful.errors import UserError
from handful.networks import NetworkConfig, build_classifier, load_weights
from handful.networks.adapter import AdapterConfig, without_adapter
from lightning_modules import Dense
from lightning_modules.checkpoints import save_module

NETWORK = {"backbone": "conv4", "options": {"width": 4}, "adapter": {"features": 6, "hidden": 8, "dropout": 0.5}}


def built(**changes):
    torch.manual_seed(0)
    return build_classifier(NETWORK | changes, 3).eval()


def test_the_classifier_keeps_its_contract():
    model = built()
    images = torch.rand(2, 3, 32, 32)
    maps = model.feature_maps(images)
    assert maps.shape == (2, 6, 2, 2)
    assert (maps >= 0).all()
    assert (maps > 0).any()
    assert model.num_features == 6
    assert model(images).equal(model.head(model.pool(maps)))


def test_every_position_is_adapted_by_itself():
    """Moving what the backbone gives moves what the adapter gives."""
    backbone = built().backbone
    maps = torch.randn(1, 4, 3, 5)
    assert backbone.adapt(maps.flip(3)).allclose(backbone.adapt(maps).flip(3))
    assert backbone.adapt(maps[:, :, 1:2, 2:3]).allclose(backbone.adapt(maps)[:, :, 1:2, 2:3], atol=1e-6)


def test_stored_maps_in_half_precision_give_the_digits_of_the_images():
    model = built()
    images = torch.rand(2, 3, 32, 32)
    inner = without_adapter(model.backbone)(images)
    assert model.backbone.adapt(inner.half()).equal(model.feature_maps(images))


def test_values_beyond_half_precision_stay_numbers():
    assert built().backbone.adapt(torch.full((1, 4, 1, 1), 1e9)).isfinite().all()


def test_layers_and_their_widths():
    for layers, shapes in ((3, [(7, 4), (7, 7), (5, 7)]), (1, [(5, 4)])):
        adapter = built(adapter={"features": 5, "hidden": 7, "layers": layers}).backbone.adapter
        assert [tuple(p.shape) for p in adapter.parameters() if p.dim() == 2] == shapes


@pytest.mark.parametrize(("adapter", "words"), [
    ({"feature": 4}, "network.adapter: unknown key 'feature'; known are features, hidden, layers, dropout"),
    ({"features": 0}, "network.adapter.features"),
    ({"layers": 1.5}, "network.adapter.layers"),
    ({"dropout": 1.0}, "network.adapter.dropout"),
    ("large", "network.adapter: a mapping"),
])  # fmt: skip
def test_bad_sizes_are_one_sentence(adapter, words):
    with pytest.raises(UserError, match=words):
        NetworkConfig.of(NETWORK | {"adapter": adapter})


def test_a_file_of_the_backbone_alone_fills_it_and_nothing_else(tmp_path):
    plain = build_classifier({k: v for k, v in NETWORK.items() if k != "adapter"}, 3)
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    model = built()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert not load_weights(model, tmp_path / "plain.pth")
    for name, value in model.state_dict().items():
        inner = name.startswith("backbone.inner.")
        expected = plain.state_dict()[name.replace("backbone.inner.", "backbone.")] if inner else before[name]
        assert value.equal(expected), name
    torch.save(model.state_dict(), tmp_path / "adapted.pth")
    other = build_classifier(NETWORK, 3)
    assert load_weights(other, tmp_path / "adapted.pth")
    assert all(value.equal(other.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_rebuilds_it(tmp_path):
    module = Dense(NETWORK, 3)
    save_module(module, tmp_path / "best.ckpt")
    loaded = handful.load(tmp_path / "best.ckpt")
    images = torch.rand(1, 3, 32, 32)
    assert loaded(images).equal(module.model.eval()(images))


def test_the_defaults_are_plain_values():
    assert AdapterConfig.of({}).plain() == {"features": 256, "hidden": 512, "layers": 2, "dropout": 0.1}


def test_a_frozen_backbone_stays_in_evaluation_mode_and_the_adapter_learns():
    module = Dense(NETWORK, 3, train_backbone=False)
    module.train()
    assert not module.model.backbone.inner.training
    assert module.model.backbone.adapter.training
