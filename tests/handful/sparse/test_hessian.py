"""What L-BFGS starts from, against inverses written out."""

import pytest
import torch

from handful.sparse.hessian import ClassBlocks, Diagonal, blocks_pay
from handful.sparse.minimise import Warmth, lambda_max, minimise
from handful.sparse.oracle import MemoryOracle
from handful.sparse.path import ExactPath
from handful.sparse.penalty import ElasticNet, GroupElasticNet
from handful.sparse.rows import Rows
from handful.sparse.standardise import column_statistics, design_matrix
from tests.handful.sparse.problems import small

PENALTY = ElasticNet(0.01, 0.9)


def oracle_of(x, y):
    return MemoryOracle(design_matrix(Rows(x), column_statistics(x)), y, int(y.max()) + 1)


@pytest.fixture
def point():
    """A sparse weight with its pseudo-gradient: some variables are free, some are not."""
    x, y = small()
    oracle = oracle_of(x, y)
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 25, dtype=torch.float64, generator=g)
    weight[:, :-1] *= torch.rand(6, 24, generator=g) < 0.3
    pseudo = PENALTY.pseudo_gradient(weight, oracle(weight).gradient)
    free = PENALTY.free(weight, pseudo)
    assert 0.2 < free.double().mean() < 0.99
    return oracle, weight, pseudo, free


def wanted(blocks, penalty, free, vector):
    """The inverse of every class's block on its free variables, by `torch.linalg.inv`."""
    out = torch.zeros_like(vector)
    ridge = torch.full(blocks.shape[1:2], penalty.ridge, dtype=torch.float64)
    for c, block in enumerate(blocks):
        some = free[c].nonzero()[:, 0]
        inner = (block + torch.diag(ridge))[some][:, some]
        out[c, some] = torch.linalg.inv(inner) @ vector[c, some]
    return out


@pytest.mark.parametrize("at_once", [2, 100])
def test_blocks_are_inverted_on_the_free_variables(point, at_once):
    oracle, weight, pseudo, free = point
    blocks = oracle.blocks(weight)
    metric = ClassBlocks(blocks.clone())
    metric._at_once = at_once
    vector = torch.randn(6, 25, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = metric.inverse(PENALTY, weight, pseudo)(vector)
    assert not found[~free].any()
    assert torch.allclose(found, wanted(blocks, PENALTY, free, vector), rtol=0.02, atol=0.01 * found.abs().max())
    # other variables are free, in two classes only
    other, steep = weight.clone(), pseudo.clone()
    for c in (1, 4):
        gone = other[c, :-1].nonzero()[:3, 0]
        other[c, gone] = steep[c, gone] = 0
    now = PENALTY.free(other, steep)
    assert (now != free).any(1).nonzero()[:, 0].tolist() == [1, 4]
    found = metric.inverse(PENALTY, other, steep)(vector)
    assert torch.allclose(found, wanted(blocks, PENALTY, now, vector), rtol=0.02, atol=0.01 * found.abs().max())
    # a much stronger ridge, nothing else
    strong = ElasticNet(1.0, 0.5)
    found = metric.inverse(strong, other, steep)(vector)
    exact = wanted(blocks, strong, now, vector)
    exact[:, -1], found[:, -1] = 0, 0
    assert torch.allclose(found, exact, rtol=0.05, atol=0.05 * exact.abs().max())


def test_the_diagonal_is_inverted_on_the_free_variables(point):
    oracle, weight, pseudo, free = point
    curvature = oracle(weight, curvature=True).curvature
    found = Diagonal(curvature).inverse(PENALTY, weight, pseudo)(torch.ones(6, 25, dtype=torch.float64))
    assert torch.allclose(found, free / (curvature.clamp(min=0.01 * curvature.mean().item()) + PENALTY.ridge))


def test_a_block_that_rounding_left_without_a_factor_falls_back_to_its_diagonal(point):
    oracle, weight, pseudo, free = point
    blocks = oracle.blocks(weight)
    blocks[2] = blocks[2].diagonal().mean() * (3 - 2 * torch.eye(25, dtype=torch.float64))
    vector = torch.ones(6, 25, dtype=torch.float64)
    found = ClassBlocks(blocks.clone()).inverse(PENALTY, weight, pseudo)(vector)
    ridge = torch.full((25,), PENALTY.ridge, dtype=torch.float64)
    assert torch.allclose(found[2], free[2] / (blocks[2].diagonal() + ridge), rtol=1e-3)
    assert torch.allclose(found[3], wanted(blocks, PENALTY, free, vector)[3], rtol=0.02, atol=0.01)


def test_repeated_columns_do_no_harm():
    x, y = small(dtype=torch.float32)
    x = torch.cat([x, x[:, :6]], 1)
    oracle = oracle_of(x, y)
    lam = 0.003 * lambda_max(oracle(oracle.bias_only()).gradient, 1.0)
    found = minimise(
        oracle, ElasticNet(lam, 1.0), oracle.bias_only(), 1e-3 * lam, warmth=Warmth(blocks=True), max_passes=2000
    )
    assert found.converged


@pytest.mark.parametrize("kind", [ElasticNet, GroupElasticNet])
def test_blocks_lead_to_the_same_minimum(kind):
    x, y = small()
    oracle = oracle_of(x, y)
    lam = 0.02 * lambda_max(oracle(oracle.bias_only()).gradient, 0.9)
    penalty = kind(lam, 0.9)
    plain = minimise(oracle, penalty, oracle.bias_only(), 1e-7 * lam, max_passes=3000)
    warmth = Warmth(blocks=True)
    start = minimise(oracle, penalty, oracle.bias_only(), 1e-3 * lam, warmth=warmth)
    found = minimise(oracle, penalty, start.weight, 1e-7 * lam, warmth=warmth, max_passes=3000)
    assert isinstance(warmth.metric, ClassBlocks)
    assert plain.converged
    assert found.converged
    assert torch.allclose(found.weight, plain.weight, atol=1e-5)


def test_a_long_path_takes_far_fewer_passes(monkeypatch):
    x, y = small(n=2000, f=24, c=40, dtype=torch.float32)
    passes = []
    for pays in (False, True):
        monkeypatch.setattr("handful.sparse.minimise.blocks_pay", lambda oracle, pays=pays: pays)
        oracle = oracle_of(x, y)
        top = lambda_max(oracle(oracle.bias_only()).gradient, 0.99)
        path = ExactPath(oracle, [top * 0.933**k for k in range(60)], 0.99, tolerance=1e-3)
        assert max(point.kkt for point in path.run()) <= 1e-3
        passes.append(oracle.passes)
    assert passes[1] < 0.7 * passes[0]


def test_the_diagonal_stays_where_blocks_are_not_asked_for():
    oracle = oracle_of(*small())
    lam = 0.02 * lambda_max(oracle(oracle.bias_only()).gradient, 0.9)
    warmth = Warmth()
    found = minimise(oracle, ElasticNet(lam, 0.9), oracle.bias_only(), 1e-7 * lam, warmth=warmth, max_passes=3000)
    assert found.passes > 40
    assert isinstance(warmth.metric, Diagonal)


def test_blocks_wait_for_their_own_run_to_be_long():
    oracle = oracle_of(*small())
    lam = 0.5 * lambda_max(oracle(oracle.bias_only()).gradient, 0.9)
    oracle.passes = 1000
    warmth = Warmth(blocks=True)
    minimise(oracle, ElasticNet(lam, 0.9), oracle.bias_only(), 1e-2 * lam, warmth=warmth)
    assert isinstance(warmth.metric, Diagonal)


def test_blocks_are_left_alone_where_they_do_not_pay():
    x, y = small(n=100, f=24, c=6)
    assert not blocks_pay(oracle_of(x, y))
    oracle = oracle_of(*small())
    assert blocks_pay(oracle)
    oracle.num_classes = 1_000_000
    assert not blocks_pay(oracle)
