"""The way from all classes to the predicted one."""

import pytest
import torch

from handful.explain.hierarchy import has_hierarchy, hierarchy, steps_in_words
from handful.networks import BinaryHead, DenseHead, SparseHead

NAMES = ["jay", "owl", "wren", "kite"]


def head():
    found = BinaryHead(8, 4, 6, relu=True)
    uses = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [1, 0, 0, 1, 1, 0], [0, 0, 1, 0, 1, 1]]).bool()
    found.assign(torch.tensor([7, 6, 5, 4, 3, 2]), torch.ones(6), torch.full((6,), 2.0), uses)
    return found


def test_each_step_names_the_feature_its_value_and_who_is_left():
    features = torch.zeros(8)
    features[torch.tensor([7, 6, 5, 4, 3, 2])] = 1 + 2 * torch.tensor([3.0, 2.0, 1.0, 1.5, -1.0, 4.0])
    steps = hierarchy(head(), features, 0, NAMES)
    assert [(step.feature, step.value) for step in steps] == [(7, 3.0), (6, 2.0), (5, 1.0)]
    assert [step.classes for step in steps] == [("jay", "owl", "wren"), ("jay", "owl"), ("jay",)]


def test_it_ends_where_nothing_further_is_present():
    features = torch.zeros(8)
    features[7] = 3.0
    steps = hierarchy(head(), features, 1, NAMES)
    assert [step.classes for step in steps] == [("owl", "jay", "wren")]
    assert hierarchy(head(), torch.zeros(8), 1, NAMES) == ()


def test_other_heads_have_none():
    assert not has_hierarchy(DenseHead(4, 2))
    sparse = SparseHead(4, 2, 2)
    sparse.fill(torch.tensor([0, 1]), torch.zeros(2), torch.ones(2), torch.tensor([[1.0, -1], [1, 1]]), torch.zeros(2))
    assert not has_hierarchy(sparse)
    assert hierarchy(sparse, torch.rand(4), 0, NAMES) == ()


@pytest.mark.parametrize(("weight", "expected"), [
    ([[2.0, 0], [0, 2.0]], True),
    ([[2.0, 0], [0, 1.0]], False),  # the order of features by presence is not what decides
    ([[2.0, 1.0], [1.0, 2.0]], False),
    ([[0.0, 0], [0, 0]], False),
    ([[2.0, 2.0], [0, 2.0]], False),
    ([[2.0, 0], [0, -2.0]], False),
])  # fmt: skip
def test_weights_of_one_size_for_as_many_features_of_every_class_have_one(weight, expected):
    sparse = SparseHead(4, 2, 2)
    sparse.fill(torch.tensor([0, 1]), torch.zeros(2), torch.ones(2), torch.tensor(weight), torch.zeros(2))
    assert has_hierarchy(sparse) is expected


def test_the_steps_in_one_line():
    """Classes that are left are named where they are few; it ends with one."""
    features = torch.zeros(8)
    features[torch.tensor([7, 6, 5])] = 1 + 2 * torch.tensor([3.0, 2.0, 1.0])
    steps = hierarchy(head(), features, 0, NAMES)
    assert steps_in_words(steps, 4, {6: "blue wing"}) == (
        "4 classes → feature 7: 3 (jay, owl, wren) → blue wing (6): 2 (jay, owl) → feature 5: jay"
    )
