"""Pairs of classes that share all features but one."""

import itertools
import sys

import pytest
import torch

from handful.assignment import AssignmentProblem, Search, class_correlation, qpm_problem, solve
from handful.assignment.exact import NotSolvedError, solve_exactly
from handful.assignment.pairs import sharing_pairs, with_pairs
from handful.errors import UserError
from tests.handful.assignment.instances import by_enumeration, instance


def counted(assignment):
    """Pairs, one by one."""
    sets = [set(row.nonzero()[:, 0].tolist()) for row in assignment]
    return sum(len(one & other) == len(one) - 1 for one, other in itertools.combinations(sets, 2))


def paired(seed, pairs, **sizes):
    problem = instance(seed, **sizes)
    parts = (problem.gain, problem.penalty, problem.bias, problem.n_features, problem.features_per_class)
    return AssignmentProblem(*parts, pairs=pairs)


@pytest.mark.parametrize("pairs", [0, 6, 12, 25])
def test_as_many_pairs_as_are_asked_for(pairs):
    problem = paired(0, pairs, candidates=60, classes=12, features=15, per_class=3)
    found = solve(problem, Search(restarts=1, patience=20))
    assert not problem.violations(found.selection, found.assignment)
    assert found.pairs == counted(found.assignment) >= pairs
    assert found.value == pytest.approx(problem.value(found.selection, found.assignment))


def test_pairs_cost_and_never_more_than_more_pairs():
    values = [
        solve(paired(1, pairs, candidates=60, classes=12, features=15, per_class=3), Search(restarts=1)).value
        for pairs in (0, 8, 20)
    ]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_the_cheapest_change_is_close_to_the_best_of_all(seed):
    """Of four classes with two of five features each, by enumeration."""
    gain = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    subsets = torch.tensor([[i in s for i in range(5)] for s in itertools.combinations(range(5), 2)])
    worth = gain @ subsets.double().T
    best, free = -torch.inf, (-torch.inf, ())
    for places in itertools.permutations(range(10), 4):
        rows = subsets[list(places)]
        if not rows.any(dim=0).all():
            continue
        value = sum(float(worth[c, p]) for c, p in enumerate(places))
        free = max(free, (value, places))
        if sharing_pairs(rows) >= 5:
            best = max(best, value)
    found = with_pairs(gain, subsets[list(free[1])], 5)
    assert sharing_pairs(found) >= 5
    assert found.any(dim=0).all()
    assert float((gain * found).sum()) >= best - 0.35 * (free[0] - best) - 1e-9


def test_more_pairs_than_can_be_are_kept_as_far_as_they_can_and_said():
    problem = paired(0, 20 * 19 // 2, candidates=40, classes=20, features=10, per_class=3)
    found = solve(problem, Search(restarts=0, patience=5))
    assert 10 < found.pairs < problem.pairs
    assert problem.violations(found.selection, found.assignment) == [
        f"{found.pairs} pairs of classes that share all features but one instead of {problem.pairs}"
    ]


def test_a_share_out_of_range_is_refused():
    correlation = class_correlation(torch.rand(40, 12), torch.arange(40) % 5)
    with pytest.raises(UserError, match="rho: 0 to 2 pairs per class"):
        qpm_problem(correlation, n_features=6, features_per_class=2, rho=2.5)
    with pytest.raises(UserError, match="5 classes make 0 to 10 pairs"):
        paired(0, 11)
    assert qpm_problem(correlation, n_features=6, features_per_class=2, rho=0.5).pairs == 2


@pytest.mark.parametrize("repeated", [False, True], ids=["all differ", "features twice"])
@pytest.mark.parametrize(
    ("sizes", "pairs"), [((6, 3, 4, 2), 3), ((6, 4, 5, 2), 6), ((6, 3, 4, 3), 1), ((5, 3, 3, 1), 3)]
)
def test_small_instances_with_pairs_are_solved_to_their_optimum(sizes, pairs, repeated):
    """By enumeration; the search alone was 6 to 39 % below in four of these."""
    candidates, classes, features, per_class = sizes
    base = instance(5, candidates=candidates, classes=classes, features=features, per_class=per_class)
    gain = base.gain.clone()
    if repeated:
        gain[:, candidates // 2 : 2 * (candidates // 2)] = gain[:, : candidates // 2]
    problem = AssignmentProblem(gain, base.penalty, base.bias, features, per_class, pairs=pairs)
    found = solve(problem)
    assert not problem.violations(found.selection, found.assignment)
    assert found.value == pytest.approx(by_enumeration(problem), rel=1e-9)


def test_pairs_of_larger_instances_are_left_to_the_search(monkeypatch):
    """Branch and bound with pairs took over 20 seconds of 60 candidates and 4 classes, the search takes 2.7."""
    asked = []

    def watched(problem, **limits):
        asked.append(problem.pairs)
        assert not problem.pairs
        return solve_exactly(problem, **limits)

    monkeypatch.setattr(sys.modules["handful.assignment.solve"], "solve_exactly", watched)
    base = instance(1, candidates=60, classes=4, features=10, per_class=3)
    problem = AssignmentProblem(base.gain, base.penalty, base.bias, 10, 3, pairs=3)
    found = solve(problem, Search(restarts=1))
    assert asked == [0]
    assert found.pairs >= 1


def test_more_pairs_than_any_assignment_holds():
    """Two classes of two of four features each, all used: they share none. Kept as far as it can be."""
    problem = paired(0, 1, candidates=6, classes=2, features=4)
    with pytest.raises(NotSolvedError, match="pairs: no assignment holds 1"):
        solve_exactly(problem)
    assert solve(problem).pairs == 0
