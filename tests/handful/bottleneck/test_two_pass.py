import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from handful.bottleneck.two_pass import TwoPass, layer_shapes
from handful.errors import UserError
from handful.networks import build_classifier
from tests.handful.bottleneck.planted import Matcher


class Nested(nn.Module):
    """A split deep inside, work in place, a module called twice, a skip past the split."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.stage = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), Matcherless())
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        first = self.relu(self.stem(images))
        second = self.stage(first)
        second += first
        return self.relu(second).mean((2, 3))


class Matcherless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 4, 1)
        self.b = nn.Conv2d(4, 4, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu_(self.b(functional.relu_(self.a(maps))))


def by_hand(net: Nested, images: Tensor, change) -> Tensor:
    first = torch.relu(net.stem(images))
    inner = change(net.stage[1].a(net.stage[0](first)))
    second = torch.relu(net.stage[1].b(torch.relu(inner))) + first
    return torch.relu(second).mean((2, 3))


def test_the_second_pass_is_the_network_with_other_features() -> None:
    torch.manual_seed(0)
    net, images = Nested().eval(), torch.randn(2, 3, 8, 8)
    two = TwoPass(net, "stage.1.a", ["stem", "stage"])
    with torch.no_grad():
        recording = two.record(images)
        assert torch.equal(recording.output, net(images))
        assert torch.equal(recording.readouts["stem"], net.stem(images)), "taken before the ReLU in place"
        kept = recording.local.clone()
        assert torch.equal(two.replay(recording, images, recording.local), recording.output)
        assert torch.equal(recording.local, kept), "the ReLU after the split works on a copy"
        other = two.replay(recording, images, 2 * recording.local + 1)
        torch.testing.assert_close(other, by_hand(net, images, lambda maps: 2 * maps + 1))
        assert torch.equal(net(images), recording.output), "the network is as it was"
    assert not any(module._forward_hooks or "forward" in module.__dict__ for module in net.modules())


def test_nothing_before_the_split_is_run_again() -> None:
    net, images = Nested().eval(), torch.randn(2, 3, 8, 8)
    two = TwoPass(net, "stage.1.a", [])
    recording = two.record(images)
    ran = []
    for name in ("stem", "stage.0", "stage.1.a", "stage.1.b"):
        module = net.get_submodule(name)
        weight = module.weight
        module._conv_forward = lambda *args, n=name, m=module, w=weight: (
            ran.append(n) or nn.Conv2d._conv_forward(m, args[0], w, m.bias)
        )
    two.replay(recording, images, recording.local)
    assert ran == ["stage.1.b"]


def test_gradients_reach_the_replaced_features() -> None:
    net, images = Matcher(), torch.randn(2, 3, 24, 24)
    two = TwoPass(net, "layer1", [])
    with torch.no_grad():
        recording = two.record(images)
    local = recording.local.clone().requires_grad_()
    two.replay(recording, images, local)[:, 0].sum().backward()
    assert local.grad is not None
    assert local.grad.abs().sum() > 0


def test_an_error_inside_leaves_no_trace() -> None:
    net = Matcher()
    two = TwoPass(net, "layer1", [])
    recording = two.record(torch.randn(2, 3, 24, 24))
    with pytest.raises(RuntimeError):
        two.replay(recording, torch.randn(2, 3, 24, 24), torch.randn(2, 5, 24, 24))
    assert not any("forward" in module.__dict__ for module in net.modules())


@pytest.mark.parametrize("backbone", ["cifar_resnet20", "conv4", "resnet18", "densenet121", "convnext_atto"])
def test_real_backbones(backbone: str) -> None:
    net = build_classifier({"backbone": backbone}, 5).eval()
    layers = {"densenet121": "backbone.net.features.denseblock1", "convnext_atto": "backbone.net.stages.1"}
    layer = layers.get(backbone, "backbone.layer1" if backbone.startswith("c") else "backbone.net.layer1")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        two = TwoPass(net, layer, ["backbone"])
        recording = two.record(images)
        assert torch.equal(two.replay(recording, images, recording.local), net(images))
        changed = two.replay(recording, images, torch.zeros_like(recording.local))
        assert not torch.allclose(changed, recording.output)
        assert torch.equal(net.head(net.pool(recording.readouts["backbone"])), recording.output)


def test_layers_that_cannot_be_split_at_are_refused() -> None:
    with pytest.raises(UserError, match="no layer 'layer9'"):
        TwoPass(Matcher(), "layer9", [])
    with pytest.raises(UserError, match="no spatial map"):
        TwoPass(Matcher(), "fc", []).record(torch.randn(1, 3, 24, 24))
    with pytest.raises(UserError, match="more than once"):
        TwoPass(Nested(), "relu", []).record(torch.randn(1, 3, 8, 8))


def test_shapes_without_touching_the_network() -> None:
    net = Matcher().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    shapes, output = layer_shapes(net, ["layer1", "layer2"], 24)
    assert shapes == {"layer1": (8, 24, 24), "layer2": (4, 12, 12)}
    assert output == (4,)
    assert net.training
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
