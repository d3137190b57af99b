"""The local search: what its descents start from, which features they look at, and that all seeds agree."""

import pytest
import torch

from handful.assignment import AssignmentProblem, Search
from handful.assignment.search import _close, _crossed, _drawn, _Pool, local_search
from tests.handful.assignment.instances import instance


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(6))
def test_crossed_sets_are_of_the_two_and_hold_most_of_what_they_share(seed):
    problem = instance(0, candidates=60, features=20, classes=12)
    one, other = torch.arange(20), torch.arange(8, 28)
    found = _crossed(problem, one, other, generator(seed))
    assert len(found.unique()) == 20
    assert set(found.tolist()) <= set(range(28))
    assert len(set(found.tolist()) & set(range(8, 20))) >= 8  # of twelve in common a tenth is left out
    assert found.tolist() != _crossed(problem, one, other, generator(seed + 1)).tolist()


def test_equal_sets_are_crossed_into_another():
    problem = instance(0, candidates=60, features=20, classes=12)
    found = [_crossed(problem, torch.arange(20), torch.arange(20), generator(seed)) for seed in range(20)]
    assert all(len(one.unique()) == 20 for one in found)
    assert any(set(one.tolist()) != set(range(20)) for one in found)


@pytest.mark.parametrize("candidates", [6, 7, 11, 60])
def test_drawn_sets_are_whole_and_differ(candidates):
    problem = instance(0, candidates=candidates, features=6)
    found = [_drawn(problem, generator(seed)).sort().values for seed in range(8)]
    assert all(len(one.unique()) == 6 for one in found)
    if candidates > 11:
        assert len({tuple(one.tolist()) for one in found}) > 1


def test_features_that_are_needed_are_looked_at_whatever_their_reach():
    problem = instance(0, candidates=900, features=6)
    reach = torch.rand(900, generator=generator())
    needed = reach.argsort()[:9]
    kept = _close(problem, needed.repeat(2), reach)
    assert kept.tolist() == sorted(kept.tolist())
    assert len(kept) == len(kept.unique()) == 600
    assert set(needed.tolist()) <= set(kept.tolist())
    assert set(reach.argsort(descending=True)[:591].tolist()) <= set(kept.tolist())
    assert _close(instance(0), needed[:0], reach[:16]).tolist() == list(range(16))


def test_sets_keep_their_values_where_features_are_numbered_anew():
    pool = _Pool()
    pool.add(2.0, torch.tensor([9, 3, 7]))
    pool.add(1.0, torch.tensor([3, 4, 9]))
    kept = torch.tensor([1, 3, 4, 7, 9])
    assert [one.tolist() for one in pool.renumbered(kept).sets] == [[1, 3, 4], [1, 2, 4]]
    assert [kept[one].tolist() for one in pool.renumbered(kept).sets] == [one.tolist() for one in pool.sets]


@pytest.mark.parametrize("restarts", [0, 3, 10, 12])
def test_sets_are_whole_and_each_is_there_once_however_many_restarts(restarts):
    problem = instance(1, candidates=700, classes=6, features=8, per_class=3)
    found = local_search(problem, Search(restarts=restarts, patience=4))
    values = [problem.set_value(one) for one in found]
    assert values == sorted(values, reverse=True)
    assert len({tuple(one.tolist()) for one in found}) == len(found)
    for one in found:
        assert one.tolist() == sorted(set(one.tolist()))
        assert len(one) == 8


def test_seeds_agree_where_there_are_many_peaks():
    """Of descents from one set alone, two of three seeds ended lower."""
    draw = generator()
    gain = torch.rand(12, 150, generator=draw, dtype=torch.float64)
    penalty = 1.5 * (torch.rand(150, 150, generator=draw, dtype=torch.float64) < 0.3).double().triu(1)
    problem = AssignmentProblem(gain, penalty + penalty.T, torch.zeros(150), 15, 4)
    for seed in range(3):
        best = local_search(problem, Search(seed=seed))[0]
        assert problem.set_value(best) == pytest.approx(42.9573, abs=1e-4)
