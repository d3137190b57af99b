"""The feature grounding loss, by hand."""

import pytest
import torch

from handful.errors import UserError
from handful.losses import feature_grounding_loss

ASSIGNMENT = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])


def test_the_formula_by_hand():
    features = torch.tensor([[4.0, 2.0, 1.0, 0.0], [0.0, 8.0, 2.0, 4.0]])
    labels = torch.tensor([0, 1])
    # (2 · 0.5 − 3) / 8 and (2 · 4 − 2) / 8
    assert float(feature_grounding_loss(features, ASSIGNMENT, labels)) == pytest.approx((-2 / 8 + 6 / 8) / 2)


def test_features_of_size_nothing_do_not_divide_by_nothing():
    assert feature_grounding_loss(torch.zeros(3, 4), ASSIGNMENT, torch.tensor([0, 1, 0])) == 0


def test_descent_grounds_the_features():
    features = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(6) % 2
    feature_grounding_loss(features, ASSIGNMENT, labels).backward()
    assert (features.grad[0] < 0).tolist() == [True, True, False, False]
    assert (features.grad[1] < 0).tolist() == [False, False, True, False]


def test_other_shapes_and_labels_are_refused():
    with pytest.raises(UserError, match="does not belong"):
        feature_grounding_loss(torch.rand(2, 3), ASSIGNMENT, torch.tensor([0, 1]))
    with pytest.raises(UserError):
        feature_grounding_loss(torch.rand(2, 4), ASSIGNMENT, torch.tensor([0, 2]))
