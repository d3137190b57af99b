import pytest
import torch

from handful.errors import UserError
from handful.sparse import column_statistics, elastic_net_path
from handful.sparse.glm_saga_package import glm_saga_path
from handful.sparse.rows import Rows
from handful.sparse.saga import ShuffledRows, SlowProgress, saga_path
from handful.sparse.standardise import design_matrix
from tests.handful.sparse.problems import small

OPTIONS = {"n_lambdas": 7, "epsilon": 0.3, "seed": 4}


@pytest.fixture(scope="module")
def data():
    return small(n=300, f=16, c=5, dtype=torch.float32)


def test_iterates_are_those_of_the_package(data):
    """A fixed number of epochs: no stopping rule that an ulp could tip."""
    pytest.importorskip("glm_saga")
    x, y = data
    design = design_matrix(Rows(x), column_statistics(x))
    options = {"max_epochs": 15, "patience": 1000, **OPTIONS}
    ours, theirs = saga_path(design, y, 5, **options), glm_saga_path(design, y, 5, **options)
    assert [p.lam for p in ours] == [p.lam for p in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a.weight, b.weight, atol=1e-5)
        assert torch.allclose(a.bias, b.bias, atol=1e-5)


def test_with_its_stopping_rule_too(data):
    """Rounding may move a stop by an epoch, which by the rule itself changes the objective by less than 1e-4."""
    pytest.importorskip("glm_saga")
    ours = elastic_net_path(*data, solver="saga", **OPTIONS)
    theirs = elastic_net_path(*data, solver="glm_saga", **OPTIONS)
    for a, b in zip(ours, theirs, strict=True):
        assert a.objective == pytest.approx(b.objective, abs=1e-4)
        assert abs(a.density - b.density) <= 0.4


def test_exact_is_lower_at_every_point_and_writes_the_same_records(data):
    saga = elastic_net_path(*data, solver="saga", **OPTIONS)
    exact = elastic_net_path(*data, solver="exact", lambdas=[p.lam for p in saga])
    for a, b in zip(exact, saga, strict=True):
        assert a.objective <= b.objective + 1e-9
        assert a.kkt <= 1e-2
        assert a.record().keys() == b.record().keys()
    assert max(p.kkt for p in saga) > 1e-2


def test_lambda_zero_and_an_early_end(data):
    path = elastic_net_path(*data, solver="saga", include_zero=True, **OPTIONS)
    assert len(path) == 8
    assert path[-1].lam == 0
    assert path[-1].density == 16
    short = elastic_net_path(*data, solver="saga", stop_density=2.0, **OPTIONS)
    assert [p.density > 2 for p in short.points[-2:]] == [True, True]
    assert torch.equal(short[-1].weight, path[len(short) - 1].weight)


def test_own_generator_only(data):
    a = elastic_net_path(*data, solver="saga", **OPTIONS)
    torch.manual_seed(99)
    b = elastic_net_path(*data, solver="saga", **OPTIONS)
    assert torch.equal(a[-1].weight, b[-1].weight)
    c = elastic_net_path(*data, solver="saga", **{**OPTIONS, "seed": 5})
    assert not torch.equal(a[-1].weight, c[-1].weight)


def test_the_package_missing_is_reported(data, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "glm_saga.elasticnet", None)
    with pytest.raises(UserError, match="glm-saga"):
        elastic_net_path(*data, solver="glm_saga", **OPTIONS)


def test_slow_progress_counts_epochs_in_a_row():
    slow = SlowProgress(0.1, 2)
    assert [slow.stop(v) for v in (5.0, 4.0, 3.95, 3.0, 2.95, 2.91)] == [False, False, False, False, False, True]


def test_every_row_once_an_epoch():
    rows = ShuffledRows(50, torch.Generator().manual_seed(0))
    first, second = list(rows), list(rows)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
