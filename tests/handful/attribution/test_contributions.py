"""A logit taken apart into features, and what parts it from the next."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from handful.attribution import contributions
from handful.attribution.contributions import Contributions
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


def two_cells(maps):
    """One image, three features of two cells each; classes 0 and 1 weigh them (2, 0, 1) and (0, 3, 1)."""
    maps = torch.tensor(maps, dtype=torch.float64)[None, :, None]
    first, second = (torch.tensor([row], dtype=torch.float64) for row in ([2, 0, 1], [0, 3, 1]))
    zero, features = torch.zeros(1, dtype=torch.float64), maps.mean(dim=(2, 3))
    logits = torch.stack([(first * features).sum(1), (second * features).sum(1)], dim=1)
    least = torch.full_like(features, -torch.inf)
    return Contributions(torch.tensor([0]), torch.tensor([1]), logits, features, first, second, zero, zero, maps, least)


def test_what_parts_two_classes_is_ordered_by_its_size_and_mapped_with_its_sign():
    found = two_cells([[0.0, 2], [1, 1], [4, 6]])  # features 1, 1, 5
    assert found.strongest(0).tolist() == [2, 0]
    assert found.strongest_lead(0).tolist() == [1, 0]  # of what both weigh the same, nothing
    assert found.strongest_lead(0, 1).tolist() == [1]
    assert found.lead_map_of(0, 0).tolist() == [[0, 4]]
    assert found.lead_map_of(0, 1).tolist() == [[-3, -3]]
    assert found.map_of(0, 1).tolist() == [[0, 0]]
    against = two_cells([[-4.0, -2], [0, 2], [1, 1]])
    assert against.strongest(0).tolist() == [0, 2]  # -6 and 1: also what speaks against it


def test_a_feature_may_have_to_be_negative_only_where_features_can_be():
    behind = two_cells([[1.0, 1], [0, 2], [0, 0]]).tie_values  # 2 against 3
    assert behind[0, :2].tolist() == pytest.approx([1.5, 2 / 3])
    for low, possible in ((0.0, False), (-1.0, True)):
        found = two_cells([[low, 2 - low], [0, 0], [0, 0]])  # 2 against 0
        found = replace(found, other_bias=found.bias - 4)  # 2 against -4: feature 0 would have to be -2
        assert found.tie_values[0, :2].tolist() == pytest.approx([-2 if possible else torch.nan, 2], nan_ok=True)


def test_the_labels_class_is_taken_apart_where_it_is_asked_for():
    labels = torch.tensor([1, 0, 3])
    assert torch.equal(contributions(relu_classifier(), images(3), "label", labels=labels).classes, labels)


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
    with pytest.raises(UserError, match="one class per image"):
        contributions(relu_classifier(), images(), "top2")
