"""A logit taken apart into features, and what parts it from the next."""

import pytest
import torch
from torch import nn

from handful.attribution import contributions
from handful.errors import UserError
from tests.handful.attribution.nets import images, relu_classifier
from tests.handful.attribution.test_class_maps import sparse_classifier


@pytest.mark.parametrize("make", [relu_classifier, sparse_classifier])
def test_contributions_and_bias_add_up_to_the_logit(make):
    model, x = make().eval(), images(5)
    with torch.inference_mode():
        found = contributions(model, x, chunk=2)
    logits = model(x).detach().double()
    torch.testing.assert_close(found.values.sum(1) + found.bias, logits.amax(1), rtol=1e-6, atol=1e-5)
    assert torch.equal(found.classes, logits.argmax(1))
    assert torch.equal(found.runner_up, logits.topk(2).indices[:, 1])
    top = logits.topk(2).values
    torch.testing.assert_close(found.margin, top[:, 0] - top[:, 1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.lead.sum(1) + found.bias - found.other_bias, found.margin)


def test_each_features_map_averages_to_its_contribution():
    found = contributions(sparse_classifier(), images(2))
    for image in range(2):
        for feature in range(6):
            torch.testing.assert_close(found.map_of(image, feature).mean(), found.values[image, feature])


def test_only_weighed_features_are_listed_strongest_first():
    model = sparse_classifier()
    found = contributions(model, images(2), 0)
    assert set(found.strongest(0).tolist()) == {4, 2}
    ordered = found.values[0, found.strongest(0)].abs()
    assert (ordered.diff() <= 0).all()
    assert len(found.strongest(0, 1)) == 1
    assert found.runner_up.ne(0).all()


def test_setting_a_feature_to_its_tie_value_ties():
    model = sparse_classifier().eval()
    found = contributions(model, images(4))
    tried = 0
    for image in range(4):
        for feature in found.strongest_lead(image).tolist():
            if found.tie_values[image, feature].isnan():
                continue
            features = found.features[image].clone()
            features[feature] = found.tie_values[image, feature]
            logits = model.head(features.float()[None])[0]
            torch.testing.assert_close(
                logits[found.classes[image]], logits[found.runner_up[image]], rtol=1e-3, atol=1e-4
            )
            tried += 1
    assert tried >= 3
    assert not (found.tie_values < 0).any()


def test_a_class_that_did_not_win_trails():
    model, x = relu_classifier().eval(), images(3)
    lowest = model(x).argmin(1)
    found = contributions(model, x, lowest)
    assert (found.margin < 0).all()
    assert torch.equal(found.runner_up, model(x).argmax(1))


def test_a_feature_that_both_weigh_the_same_cannot_bring_a_tie():
    model, x = sparse_classifier().eval(), images(3)
    found = contributions(model, x, model(x).argmin(1))  # behind, so a tie would take more of something
    same = found.weights == found.other_weights
    assert same.any()
    assert found.tie_values[same].isnan().all()
    assert not found.tie_values.isinf().any()


def test_what_has_no_contributions_says_so():
    with pytest.raises(UserError, match="one linear layer"):
        contributions(nn.Sequential(nn.Flatten(), nn.Linear(432, 2)), images())
    with pytest.raises(UserError, match="one class an image"):
        contributions(relu_classifier(), images(), "top2")
