"""The choice of features and of exactly k per class, on the GPU."""

import pytest
import torch

from handful.assignment import (
    AssignmentProblem,
    ClassSums,
    LocalitySums,
    Search,
    class_correlation,
    clique_threshold,
    feature_similarity,
    qpm_problem,
    similarity_penalty,
    solve,
    solve_exactly,
    upper_bound,
)
from tests.cuda.common import TEST_DEVICE, assert_same, need_device
from tests.handful.assignment.instances import instance

need_device()

#: A pretended device takes long for every operation.
SLOW = TEST_DEVICE == "pretended"
#: With crossings, which come after ten restarts.
SEARCH = Search(patience=3, restarts=11) if SLOW else Search(restarts=12)
LARGE = {"candidates": 40, "classes": 8, "features": 8} if SLOW else {"candidates": 120, "classes": 20, "features": 15}
LARGE["per_class"] = 3


def on(problem, device):
    parts = (problem.gain.to(device), problem.penalty.to(device), problem.bias.to(device))
    return AssignmentProblem(*parts, problem.n_features, problem.features_per_class)


@pytest.mark.parametrize("size", [
    {"candidates": 20, "classes": 4, "features": 7},
    LARGE,
], ids=["small", "large"])  # fmt: skip
def test_the_choice_is_that_of_the_cpu_and_the_same_twice(size, device):
    problem = instance(0, **size)
    expected = solve(problem, SEARCH)
    moved = on(problem, device)
    found = solve(moved, SEARCH)
    again = solve(moved, SEARCH)
    assert found.selection.tolist() == again.selection.tolist()
    assert found.assignment.tolist() == again.assignment.tolist()
    assert found.value == again.value
    assert found.value == pytest.approx(expected.value)
    assert found.selection.tolist() == expected.selection.tolist()
    assert not moved.violations(found.selection, found.assignment)
    assert moved.value(found.selection, found.assignment) == pytest.approx(found.value)
    assert found.selection.device == found.assignment.device == device


def test_a_first_set_and_the_bound(device):
    problem = on(instance(1, **LARGE, penalty=5.0), device)
    solution = solve(problem, SEARCH, start=torch.arange(LARGE["features"]))
    assert 0 <= upper_bound(problem, seconds=1).gap(solution) < 0.2
    small = instance(0, candidates=7, classes=3, features=4)
    assert solve_exactly(on(small, device)).value == pytest.approx(solve_exactly(small).value)


def test_the_constants_are_those_of_the_cpu(device):
    generator = torch.Generator().manual_seed(0)
    rows, width, classes = (36, 16, 4) if SLOW else (90, 40, 9)
    features, labels = torch.rand(rows, width, generator=generator), torch.arange(rows) % classes
    expected = class_correlation(features, labels)
    found = class_correlation(features.to(device), labels.to(device))
    assert found.device == device
    assert_same(found, expected)
    assert_same(class_correlation(features.to(device), labels), expected)
    sums = ClassSums(classes, width, device)
    sums.update(features, labels)
    assert_same(sums.class_correlation(), expected)
    similarity = feature_similarity(expected)
    assert_same(feature_similarity(found), similarity)
    assert clique_threshold(similarity.to(device), 6) == clique_threshold(similarity, 6)
    assert_same(similarity_penalty(similarity.to(device), 0.3), similarity_penalty(similarity, 0.3))
    local, moved = LocalitySums(width), LocalitySums(width, device)
    maps = torch.rand(8, width, 5, 5, generator=generator)
    local.update(maps)
    moved.update(maps.to(device))
    assert_same(moved.bias(), local.bias())
    solutions = [
        solve(qpm_problem(one, bias, n_features=8, features_per_class=2), SEARCH)
        for one, bias in ((expected, local.bias()), (expected.to(device), local.bias().to(device)))
    ]
    assert solutions[0].value == pytest.approx(solutions[1].value)
