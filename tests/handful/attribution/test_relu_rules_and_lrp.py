"""Methods with another backward rule: guided backprop, deconvolution, LRP."""

import copy
import sys

import captum.attr
import pytest
import torch
from torch import nn

from handful.attribution import attribute
from handful.errors import UserError
from handful.networks.build import build_classifier
from tests.handful.attribution.nets import images, relu_classifier


def hand_rule(model, x, target, gated):
    """The rule by hand on conv, bn, relu, conv, bn, relu, mean, linear; batch norms folded by autograd."""
    conv1, bn1, _, conv2, bn2, _ = model.backbone
    z1 = bn1(conv1(x))
    a1 = z1.relu().detach().requires_grad_()
    z2 = bn2(conv2(a1))
    weight = model.head.linear.weight[target].reshape(1, -1, 1, 1)
    grad = (weight / (z2.shape[2] * z2.shape[3])).expand_as(z2).clamp(min=0)
    grad = grad * (z2 > 0) if gated else grad
    (grad,) = torch.autograd.grad(z2, a1, grad)
    grad = grad.clamp(min=0) * (z1 > 0) if gated else grad.clamp(min=0)
    return torch.autograd.grad(z1, x, grad)[0]


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("method", "gated"), [("guided_backprop", True), ("deconvolution", False)])
def test_relu_rules_match_the_rule_by_hand(method, gated, inplace):
    model, x = relu_classifier(inplace=inplace), images()
    found = attribute(model, x, 2, method=method).raw
    expected = hand_rule(relu_classifier().eval(), x.clone().requires_grad_(), 2, gated)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("method", "other"),
    [("guided_backprop", captum.attr.GuidedBackprop), ("deconvolution", captum.attr.Deconvolution)],
)
@pytest.mark.filterwarnings("ignore")
def test_relu_rules_agree_with_captum(method, other):
    model, x = relu_classifier().eval(), images()
    torch.testing.assert_close(attribute(model, x, 1, method=method).raw, other(model).attribute(x, 1))


@pytest.mark.parametrize(("method", "gated"), [("guided_backprop", True), ("deconvolution", False)])
def test_relus_that_end_at_six_follow_the_rule(method, gated):
    first, last = nn.Conv2d(3, 4, 3), nn.Linear(400, 2)
    model = nn.Sequential(first, nn.ReLU6(inplace=True), nn.Flatten(), last)
    x = 20 * images()[:2]
    score = first(x).detach()
    assert (score > 6).any()
    assert (score < 0).any()
    arriving = last.weight[1].reshape(4, 10, 10).clamp(min=0) * (((score > 0) & (score < 6)) if gated else 1.0)
    expected = nn.functional.conv_transpose2d(arriving.expand(2, -1, -1, -1), first.weight)
    torch.testing.assert_close(attribute(model, x, 1, method=method).raw, expected)


@pytest.mark.parametrize("method", ["guided_backprop", "deconvolution"])
def test_a_network_without_relu_modules_is_refused(method):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(400, 2))
    with pytest.raises(UserError, match=r"nn\.ReLU.*runs none"):
        attribute(model, images(), method=method)


@pytest.mark.parametrize("method", ["guided_backprop", "deconvolution"])
@pytest.mark.parametrize("call", [torch.relu, nn.functional.relu, torch.Tensor.relu_, nn.functional.relu6])
def test_a_network_with_relus_that_are_function_calls_is_refused(method, call):
    class Mixed(nn.Sequential):
        def forward(self, x):
            return super().forward(call(x * 1.0))

    convolutions = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)
    model = Mixed(*convolutions, nn.Flatten(), nn.LazyLinear(2))
    model(images())
    with pytest.raises(UserError, match=r"1 of the 3 ReLUs of Mixed are function calls"):
        attribute(model, images(), method=method)


def test_lrp_takes_batch_norms_of_several_processes():
    model, x = relu_classifier().eval(), images()
    several = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))
    assert any(isinstance(m, nn.SyncBatchNorm) for m in several.modules())
    torch.testing.assert_close(attribute(several, x, 1, method="lrp").raw, attribute(model, x, 1, method="lrp").raw)


def test_guided_backprop_with_positive_weights_is_the_gradient():
    model = relu_classifier()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    x = images()
    torch.testing.assert_close(
        attribute(model, x, 1, method="guided_backprop").raw, attribute(model, x, 1, method="gradient").raw
    )


def test_lrp_epsilon_without_biases_is_input_times_gradient():
    model, x = relu_classifier(bias=False), images()
    found = attribute(model, x, 2, method="lrp", rule="epsilon", epsilon=1e-9)
    torch.testing.assert_close(found.raw, attribute(model, x, 2, method="input_x_gradient").raw, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.raw.sum(dim=(1, 2, 3)), found.scores, rtol=1e-3, atol=1e-5)


def test_lrp_keeps_relevance_in_a_residual_network():
    torch.manual_seed(0)
    model = build_classifier({"backbone": "cifar_resnet20"}, 5).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
            if isinstance(module, nn.Linear):
                module.bias.zero_()
    x = images(2, size=16)
    found = attribute(model, x, "top2", method="lrp", rule="epsilon", epsilon=1e-9)
    # without biases (batch norms at their start have none) and with ε → 0 nothing is lost
    torch.testing.assert_close(found.raw.sum(dim=(2, 3, 4)), found.scores, rtol=1e-3, atol=1e-4)
    assert found.completeness.abs().max() < 1e-3
    torch.testing.assert_close(
        found.raw, attribute(model, x, "top2", method="input_x_gradient").raw, rtol=1e-2, atol=1e-4
    )
    bounded = attribute(model, x, method="lrp", rule="zplus")
    assert bounded.raw.abs().sum(dim=(1, 2, 3)).max() < 20 * bounded.scores.abs().max()


def test_lrp_refuses_what_it_has_no_rule_for():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(400, 2))
    with pytest.raises(UserError, match='no rule for "GELU"'):
        attribute(model, images(), method="lrp")

    class Gate(nn.Module):
        def forward(self, x):
            return (x * x.relu()).flatten(1)[:, :2]

    with pytest.raises(UserError, match='no rule for "mul"'):
        attribute(Gate(), images(), method="lrp")
    with pytest.raises(UserError, match="rule"):
        attribute(relu_classifier(), images(), method="lrp", rule="alphabeta")


def test_lrp_without_its_extra_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "zennit.composites", None)
    with pytest.raises(UserError, match="pip install zennit"):
        attribute(relu_classifier(), images(), method="lrp")
