"""The order in which features, images and classes come does not reach the choice, even where much is tied."""

import pytest
import torch

from handful.assignment import (
    BinaryAssignmentClassifier,
    Search,
    class_correlation,
    feature_similarity,
    qpm_problem,
    similarity_threshold,
    solve,
)
from handful.assignment.order import canonical_order, inverse

QUICK = Search(restarts=3, patience=20)


def data(features=60, classes=12, images=240, levels=3, twins=6, seed=0):
    """Features of few values, many tied; the last ones are copies of the first."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    chance = torch.rand(classes, features, generator=generator)
    x = (torch.rand(images, features, generator=generator) < chance[labels]).float()
    x = (x * torch.randint(1, levels, x.shape, generator=generator)).float()
    x[:, features - twins :] = x[:, :twins]
    return x, labels


def contents(x, selection, assignment):
    """Every class's features by their values: twins are the same."""
    columns = [tuple(column) for column in x[:, selection].T.tolist()]
    return [sorted(columns[i] for i in row.nonzero()[:, 0].tolist()) for row in assignment]


@pytest.mark.parametrize("rho", [0.0, 0.5])
@pytest.mark.parametrize("sizes", [
    {}, {"features": 40, "classes": 8, "twins": 0}, {"features": 200, "classes": 20, "images": 400, "twins": 40},
], ids=["twins", "small", "many"])  # fmt: skip
def test_permuted_features_give_the_permuted_choice(sizes, rho):
    x, labels = data(**sizes)
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(1))
    found = []
    for own in (x, x[:, order]):
        problem = qpm_problem(class_correlation(own, labels), n_features=12, features_per_class=3, rho=rho)
        solution = solve(problem, QUICK)
        found.append((solution.value, contents(own, solution.selection, solution.assignment)))
        assert solution.selection.tolist() == sorted(solution.selection.tolist())
        assert problem.value(solution.selection, solution.assignment) == pytest.approx(solution.value)
    assert found[0] == found[1]


def test_similarities_and_thresholds_are_permuted_to_the_last_bit():
    x, labels = data(features=131, twins=9)
    correlation = class_correlation(x, labels)
    order = torch.randperm(131, generator=torch.Generator().manual_seed(2))
    similarity, permuted = feature_similarity(correlation), feature_similarity(correlation[:, order])
    one = canonical_order(correlation[:, :122])  # without twins
    assert len(one) == 122
    single = (order < 122).nonzero()[:, 0]
    assert similarity[order[single]][:, order[single]].equal(permuted[single][:, single])
    assert similarity_threshold(correlation, 12) == similarity_threshold(correlation[:, order], 12)


def test_the_canonical_order_depends_on_values_alone():
    columns = torch.randint(0, 2, (5, 40), generator=torch.Generator().manual_seed(0)).double()
    further = torch.rand(40, generator=torch.Generator().manual_seed(1))
    shuffle = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    one, other = canonical_order(columns, further), canonical_order(columns[:, shuffle], further[shuffle])
    assert shuffle[other].equal(one)
    assert columns[:, one][:, inverse(one)].equal(columns)


def test_shuffled_images_and_renamed_classes_make_the_same_choice():
    x, labels = data(features=61, twins=0)
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    renamed = torch.randperm(12, generator=torch.Generator().manual_seed(4))
    found = []
    for own, names in ((x, labels), (x[rows], labels[rows]), (x, renamed[labels])):
        model = BinaryAssignmentClassifier(n_features=12, features_per_class=3, restarts=3, patience=20)
        model.fit(own.numpy(), names.numpy())
        found.append((model.selection_.tolist(), model.assignment_))
    assert found[0][0] == found[1][0] == found[2][0]
    assert (found[0][1] == found[1][1]).all()
    assert (found[0][1] == found[2][1][renamed.numpy()]).all()
