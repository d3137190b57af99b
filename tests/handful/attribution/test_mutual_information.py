import pytest
import torch

from handful.attribution import attribute
from handful.bottleneck import InfoMaxBottleneck, Weights, per_sample_maps
from handful.errors import UserError
from tests.handful.bottleneck import planted
from tests.handful.bottleneck.conftest import build, train


@pytest.fixture(scope="module")
def plugin() -> InfoMaxBottleneck:
    model = build()
    train(model, 5, Weights())
    return model


@pytest.mark.parametrize("method", ["general", "general_head", "sufficient", "redundant", "keep", "capacity"])
def test_the_registry_draws_what_the_plugin_draws(plugin: InfoMaxBottleneck, method: str) -> None:
    pictures = planted.images(5, 3)[0]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    found = attribute(plugin, pictures, "top2", method=method, image_ids=range(5), chunk=2)
    assert torch.equal(state, torch.get_rng_state())
    assert found.raw.shape == (5, 2, planted.SIDE, planted.SIDE)
    assert found.layer == "layer1"
    with torch.no_grad():
        torch.testing.assert_close(found.logits, planted.Matcher()(pictures))
    alone = attribute(plugin, pictures[3:4], method=method, image_ids=[3])
    torch.testing.assert_close(alone.raw[0], found.raw[3, 0], rtol=1e-4, atol=1e-5)
    if method in ("general", "general_head", "keep", "capacity"):
        torch.testing.assert_close(found.raw[:, 0], plugin.maps(pictures, resize=False)[method], rtol=1e-4, atol=1e-5)


def test_the_per_sample_bottleneck_explains_each_target(plugin: InfoMaxBottleneck) -> None:
    pictures = planted.images(2, 3)[0]
    found = attribute(
        plugin, pictures, torch.tensor([[0, 1], [2, 3]]), method="iba", image_ids=[0, 1], steps=3, copies=4
    )
    assert found.raw.shape == (2, 2, planted.SIDE, planted.SIDE)
    assert not torch.equal(found.raw[:, 0], found.raw[:, 1])
    assert all(parameter.grad is None for parameter in plugin.base.parameters())


def test_other_networks_are_refused() -> None:
    with pytest.raises(UserError, match="trained plug-in"):
        attribute(planted.Matcher(), torch.randn(1, 3, 24, 24), method="sufficient")
    untrained = InfoMaxBottleneck(
        planted.Matcher(), local_layer="layer1", readout_layers=["layer1"], image_size=planted.SIDE
    )
    with pytest.raises(UserError, match="not been trained"):
        attribute(untrained, torch.randn(1, 3, 24, 24), method="sufficient")


def test_no_gradient_of_a_surrounding_mode_is_needed(plugin: InfoMaxBottleneck) -> None:
    pictures = planted.images(2, 3)[0]
    labels = torch.tensor([0, 1])
    expected = per_sample_maps(plugin, pictures, labels, steps=2, copies=2)
    with torch.inference_mode():
        torch.testing.assert_close(
            per_sample_maps(plugin, pictures.clone(), labels.clone(), steps=2, copies=2), expected
        )
