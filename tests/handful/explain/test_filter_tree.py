"""The decision tree over filters: fidelity, contributions that add up, what is refused."""

import pytest
import torch

from handful.errors import UserError
from handful.explain.filter_tree import FilterTree


def made(count=200, seed=0):
    g = torch.Generator().manual_seed(seed)
    features = torch.rand(count, 6, generator=g)
    weight = torch.tensor([[3.0, 0, 0, 0, 0, 0], [0, 3, 0, 0, 0, 0], [0, 0, 3, -2, 0, 0]])
    return features, (features @ weight.T).argmax(dim=1)


def test_contributions_and_start_add_up_to_the_probability():
    features, decisions = made()
    tree = FilterTree(features, decisions)
    for row in features[:20]:
        found = tree.explain(row)
        assert found.start + sum(found.contributions.values()) == pytest.approx(found.probability, rel=1e-12)
        assert found.predicted == int(tree.predict(row[None]))
        assert set(found.contributions) == {feature for feature, _, _ in found.path}
        for feature, threshold, above in found.path:
            assert (float(row[feature]) > threshold) == above
    share = float((decisions == found.predicted).double().mean())
    assert found.start == pytest.approx(share)


def test_fidelity_is_that_of_other_images_and_only_deciding_features_are_used():
    tree = FilterTree(*made(2000))
    features, decisions = made(seed=1)
    agree = [tree.explain(row).predicted == int(label) for row, label in zip(features, decisions, strict=True)]
    assert tree.fidelity(features, decisions) == pytest.approx(sum(agree) / 200)
    assert tree.fidelity(features, decisions) > 0.85
    small = FilterTree(*made(2000), max_leaves=4)
    assert small.leaves == 4
    assert set(small.used) <= {0, 1, 2, 3}
    assert small.fidelity(features, decisions) < tree.fidelity(features, decisions)


def test_one_class_is_a_tree_of_one_leaf():
    tree = FilterTree(torch.rand(10, 2), torch.full((10,), 3))
    found = tree.explain(torch.rand(2))
    assert (found.predicted, found.probability, found.path) == (3, 1.0, [])
    assert tree.used == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((torch.full((3, 2), torch.nan), [0, 1, 0]), "features: row 0 holds"),
        ((torch.rand(3, 2), [0, 1]), "decisions: expected 3"),
        ((torch.rand(0, 2), []), "an image and a feature at least"),
        ((torch.rand(3, 2), [0, 1, 0], 1), "max_leaves: expected at least 2"),
    ],
)
def test_what_is_refused(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        FilterTree(*arguments)
