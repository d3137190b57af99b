"""Ternary and binary heads: the contract of heads, and what is read of an image where features are cut off."""

import pytest
import torch

from handful import Inputs
from handful.attribution import attribute, contributions
from handful.errors import UserError
from handful.explain import explain
from handful.networks import BinaryHead, Classifier, TernaryHead, build_classifier, build_head
from handful.networks.discrete_heads import ternary_weights


def binary(relu, num_features=12, classes=4):
    generator = torch.Generator().manual_seed(0)
    head = BinaryHead(num_features, classes, 5, relu=relu).eval()
    uses = torch.tensor([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [1, 0, 0, 0, 1]]).bool()
    mean, std = torch.rand(5, generator=generator), torch.rand(5, generator=generator) + 0.5
    head.assign(torch.tensor([3, 0, 7, 11, 5]), mean, std, uses)
    return head


@pytest.mark.parametrize("relu", [False, True])
def test_a_checkpoint_rebuilds_it(relu):
    head = binary(relu)
    again = build_head(head.describe())
    again.load_state_dict(head.state_dict())
    features = torch.randn(6, 12)
    assert again.eval()(features).equal(head(features))
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert (head.n_features, head.features_per_class) == (5, 2)


def test_logits_are_sums_of_features_that_are_present():
    head, features = binary(True), torch.randn(50, 12)
    z = ((features[:, head.selection] - head.mean) / head.std).clamp(min=0)
    torch.testing.assert_close(head(features), z @ head.weight.T)
    assert (head(features) >= 0).all()


@pytest.mark.parametrize("relu", [False, True])
def test_weights_for_an_image_give_its_logits(relu):
    head, features = binary(relu), torch.randn(30, 12)
    weight, bias = head.weights_for(features, torch.arange(4).expand(30, 4))
    logits = (weight * features[:, None]).sum(dim=2) + bias
    torch.testing.assert_close(logits, head(features))
    torch.testing.assert_close(head.in_float64(features).float(), head(features))
    assert head.is_linear is not relu


@pytest.mark.parametrize("relu", [False, True])
def test_maps_and_contributions_add_up_to_the_logit(relu):
    backbone = build_classifier({"backbone": "conv4", "options": {"width": 12}}, 4).backbone
    model = Classifier(backbone, binary(relu)).eval()
    images = torch.rand(8, 3, 32, 32)
    with torch.no_grad():
        features = model.features(images)
        model.head.mean.copy_(features.mean(dim=0)[model.head.selection])
        model.head.std.copy_(features.std(dim=0)[model.head.selection])
    parts = contributions(model, images)
    logits = parts.logits.gather(1, parts.classes[:, None])[:, 0]
    torch.testing.assert_close(parts.values.sum(dim=1) + parts.bias, logits, atol=1e-5, rtol=1e-5)
    others = parts.logits.gather(1, parts.runner_up[:, None])[:, 0]
    torch.testing.assert_close(parts.margin, logits - others, atol=1e-5, rtol=1e-5)
    if relu:
        assert ((parts.weights == 0) & (model.head.class_weights()[0][parts.classes] != 0)).any()
        possible = parts.tie_values.isfinite()
        assert (parts.tie_values >= parts.least)[possible].all()
    assert attribute(model, images, method="cam").completeness.abs().max() < 1e-4
    model.inputs = Inputs(["a", "b", "c", "d"], 32, (0.5,) * 3, (0.5,) * 3)
    why = explain(model, images[0], methods="cam")
    assert sum(one.contribution for one in why.contributions) + why.bias == pytest.approx(why.explained.logit)


def test_ternary_weights_are_the_largest_at_their_mean_size():
    weight = torch.tensor([[3.0, -1.0, 0.0], [0.5, 2.0, -0.1]])
    assert ternary_weights(weight, 3).tolist() == [[2, -2, 0], [0, 2, 0]]
    assert (ternary_weights(weight, 99) != 0).sum() == 5
    with pytest.raises(UserError, match="weights that are not 0"):
        ternary_weights(torch.zeros(2, 2), 3)


def test_a_ternary_head_refuses_other_weights():
    head = TernaryHead(6, 2, 2)
    parts = torch.tensor([0, 1]), torch.zeros(2), torch.ones(2)
    with pytest.raises(UserError, match="weights of one size"):
        head.fill(*parts, torch.tensor([[1.0, 0.0], [0.5, 0.0]]), torch.zeros(2))
    head.fill(*parts, torch.tensor([[0.5, 0.0], [-0.5, 0.5]]), torch.zeros(2))
    assert head.n_features == 2
