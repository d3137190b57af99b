"""Bounds: never below the optimum, whenever they are asked for, and close to it."""

import itertools
import math

import pytest
import torch

from handful.assignment import AssignmentProblem, Search, solve, solve_exactly, upper_bound
from handful.assignment.lagrangian import lagrangian_bound, without_hopeless
from handful.assignment.search import local_search
from handful.assignment.semidefinite import Relaxation
from handful.assignment.swaps import greedy
from handful.errors import UserError
from tests.handful.assignment.instances import instance


def relaxed_optimum(problem):
    """With equal classes and unused features allowed, by trying every set."""
    sets = itertools.combinations(range(problem.n_candidates), problem.n_features)
    return max(problem.set_value(torch.tensor(one)) for one in sets)


@pytest.mark.parametrize(("seed", "sizes"), [
    (0, {"candidates": 12, "features": 5}), (1, {"candidates": 12, "features": 5, "penalty": 300.0}),
    (2, {"candidates": 11, "features": 10}), (3, {"candidates": 14, "features": 3, "per_class": 3, "classes": 1}),
    (4, {"candidates": 10, "features": 2, "classes": 1}),
    (5, {"candidates": 10, "features": 1, "per_class": 1, "classes": 1}),
    (6, {"candidates": 12, "features": 6, "classes": 12, "penalty": 1e-4}),
])  # fmt: skip
def test_after_every_step_it_is_no_less_than_the_optimum(seed, sizes):
    problem = instance(seed, **sizes)
    optimum = relaxed_optimum(problem)
    value, multipliers = lagrangian_bound(problem)
    relaxation = Relaxation(problem, multipliers)
    assert value >= optimum - 1e-9
    for _ in range(60):
        relaxation.step()
        assert relaxation.bound() >= optimum - 1e-6 * abs(optimum)
    assert relaxation.bound() <= optimum + 0.05 * abs(optimum)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_with_penalties_it_comes_close_at_any_scale(scale):
    problem = instance(0, candidates=120, classes=20, features=15, per_class=3, penalty=60.0)
    problem = AssignmentProblem(scale * problem.gain, scale * problem.penalty, scale * problem.bias, 15, 3)
    solution = solve(problem, Search(restarts=3))
    assert lagrangian_bound(problem)[0] > 1.05 * solution.value
    bound = upper_bound(problem, enough=1.04 * solution.value)
    assert 0 <= bound.gap(solution) <= 0.04
    assert 0 < bound.steps <= 100


def test_the_whole_bound_is_no_less_than_the_optimum_of_small_instances():
    for seed in range(4):
        problem = instance(seed, candidates=14, classes=4, features=6)
        exact = solve_exactly(problem)
        assert upper_bound(problem, seconds=0.5).gap(exact) >= -1e-9


def test_features_of_the_best_set_are_kept():
    problem = instance(1, candidates=200, classes=20, features=15, per_class=3, penalty=0.5)
    best = local_search(problem, Search(restarts=2, patience=20))[0]
    value, multipliers = lagrangian_bound(problem)
    kept = without_hopeless(problem, value, multipliers, problem.set_value(greedy(problem)))
    assert len(kept) < 150
    assert set(best.tolist()) <= set(kept.tolist())


def test_it_ends_in_time_and_where_it_is_enough():
    problem = instance(2, candidates=60, classes=12, features=15, per_class=3, penalty=60.0)
    free = lagrangian_bound(problem)[0]
    assert upper_bound(problem, seconds=0).value == pytest.approx(free)
    some = upper_bound(problem, seconds=200, enough=0.99 * free)
    assert some.value <= 0.99 * free
    assert some.seconds < 200
    with pytest.raises(UserError, match="seconds"):
        upper_bound(problem, seconds=math.nan)


def test_where_all_features_are_chosen_it_is_the_value():
    problem = instance(0, candidates=6, features=6)
    assert upper_bound(problem).value == pytest.approx(problem.set_value(torch.arange(6)))
