"""Sets of classes in words: what speaks for all of them, what would decide."""

import pytest
import torch

from handful.explain.possible import Possible, possible_classes
from handful.networks import BinaryHead, DenseHead, SparseHead

NAMES = ["jay", "owl", "wren", "kite"]
LOGITS = torch.tensor([3.0, 2.0, 1.0, 0.0])


def head():
    """Features 7 and 6 speak for the first three, each of which has one of its own; all have mean 1."""
    found = BinaryHead(8, 4, 6, relu=True)
    uses = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [1, 1, 0, 0, 1, 0], [0, 0, 1, 0, 1, 1]]).bool()
    found.assign(torch.tensor([7, 6, 5, 4, 3, 2]), torch.ones(6), torch.full((6,), 2.0), uses)
    return found


def of(members, features, found=None):
    row = torch.tensor([name in members for name in NAMES])
    return possible_classes(row, 0.9, LOGITS, found or head(), NAMES, features)


def features(**values):
    found = torch.zeros(8)
    for name, value in values.items():
        found[int(name[1:])] = value
    return found


def test_one_of_three_by_two_features_the_third_would_decide():
    """The strongest shared feature first."""
    found = of({"jay", "owl", "wren"}, features(f7=2.0, f6=5.0))
    assert str(found) == (
        "one of jay, owl and wren (90 %), by feature 6 and feature 7; "
        "feature 5 would decide for jay, feature 4 for owl, feature 3 for wren"
    )
    assert found.sentence({6: "blue wing", 4: "round head"}) == (
        "one of jay, owl and wren (90 %), by blue wing (6) and feature 7; "
        "feature 5 would decide for jay, round head (4) for owl, feature 3 for wren"
    )


def test_a_shared_feature_that_is_absent_speaks_for_nobody():
    assert of({"jay", "owl"}, features(f7=2.0, f6=0.5)).shared == (7,)
    assert of({"jay", "owl"}, features()).shared == ()
    assert str(of({"jay", "owl"}, features())).startswith("one of jay and owl (90 %); feature 5 would decide")


@pytest.mark.parametrize(("members", "words"), [
    (set(), "like no class (90 %)"),
    ({"jay"}, "jay alone (90 %), by feature 7"),
    ({"jay", "kite"}, "one of jay and kite (90 %); feature 7 and feature 6 would decide for jay, "
                      "feature 3 and feature 2 for kite"),
])  # fmt: skip
def test_every_size_has_its_sentence(members, words):
    assert str(of(members, features(f7=2.0))) == words


def test_many_classes_are_counted():
    many = Possible(0.75, tuple(f"class {n}" for n in range(9)), (), {})
    assert str(many) == "one of 9 classes, class 0, class 1, class 2 and others (75 %)"


def test_a_feature_against_a_class_does_not_speak_for_it():
    """Of heads with signs, positive weights alone count; a dense head says nothing of features."""
    sparse = SparseHead(8, 4, 2)
    weight = torch.tensor([[1.0, 0.5], [1.0, -0.5], [0.0, 1.0], [0.0, 0.0]])
    sparse.fill(torch.tensor([7, 6]), torch.zeros(2), torch.ones(2), weight, torch.zeros(4))
    found = of({"jay", "owl"}, features(f7=1.0, f6=1.0), sparse)
    assert (found.shared, found.own) == ((7,), {"jay": (6,), "owl": ()})
    dense = of({"jay", "owl"}, features(f7=1.0), DenseHead(8, 4))
    assert str(dense) == "one of jay and owl (90 %)"
