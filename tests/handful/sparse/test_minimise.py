import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from handful.sparse.duality_gap import DualityGap
from handful.sparse.minimise import lambda_grid, lambda_max, minimise
from handful.sparse.oracle import MemoryOracle
from handful.sparse.penalty import ElasticNet, GroupElasticNet
from handful.sparse.rows import Rows
from handful.sparse.standardise import column_statistics, design_matrix
from tests.handful.sparse.problems import naive_objective, small, standardised

KINDS = [(ElasticNet, 0.99), (ElasticNet, 1.0), (ElasticNet, 0.5), (GroupElasticNet, 0.8), (GroupElasticNet, 1.0)]


@pytest.fixture(scope="module")
def problem():
    x, y = small()
    oracle = MemoryOracle(design_matrix(Rows(x), column_statistics(x)), y, 6)
    return standardised(x), y, oracle


def largest(oracle, kind, alpha):
    return lambda_max(oracle(oracle.bias_only()).gradient, alpha, group=kind is GroupElasticNet)


def solve(oracle, kind, lam, alpha, tolerance=1e-6):
    return minimise(oracle, kind(lam, alpha), oracle.bias_only(), tolerance * lam * alpha)


@pytest.mark.parametrize(("kind", "alpha"), KINDS)
def test_just_above_lambda_max_nothing_is_left_and_just_below_something(problem, kind, alpha):
    _, _, oracle = problem
    top = largest(oracle, kind, alpha)
    assert not solve(oracle, kind, 1.0001 * top, alpha).weight[:, :-1].any()
    assert solve(oracle, kind, 0.98 * top, alpha).weight[:, :-1].any()


@pytest.mark.parametrize(("kind", "alpha"), KINDS)
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_optimality_by_definition(problem, kind, alpha, share):
    """Residual, gap, and that no perturbation gets lower, all by the objective written out."""
    z, y, oracle = problem
    lam = share * largest(oracle, kind, alpha)
    penalty = kind(lam, alpha)
    found = solve(oracle, kind, lam, alpha)
    assert found.converged
    group = kind is GroupElasticNet
    w, b = found.weight[:, :-1], found.weight[:, -1]
    naive = naive_objective(z, y, w, b, lam, alpha, group)
    assert found.objective == pytest.approx(naive, rel=1e-10)
    seen = oracle(found.weight)
    assert penalty.residual(penalty.pseudo_gradient(found.weight, seen.gradient)) <= 1e-6 * lam * alpha * 1.01
    gap = DualityGap(oracle)(found.weight, seen, penalty)
    assert -1e-12 <= gap <= 1e-4 * naive
    g = torch.Generator().manual_seed(1)
    for size in (1e-1, 1e-3, 1e-5):
        shift = size * torch.randn(found.weight.shape, generator=g, dtype=torch.float64)
        for sign in (1, -1):
            there = found.weight + sign * shift
            assert oracle(there).loss + penalty.value(there) >= naive - 1e-12
            kept = found.weight + sign * shift * (found.weight != 0)
            assert oracle(kept).loss + penalty.value(kept) >= naive - 1e-12


@pytest.mark.parametrize(("kind", "alpha"), KINDS)
def test_the_gap_bounds_the_distance_to_a_high_precision_solve(problem, kind, alpha):
    _, _, oracle = problem
    lam = 0.05 * largest(oracle, kind, alpha)
    best = solve(oracle, kind, lam, alpha, 1e-9).objective
    gap = DualityGap(oracle)
    for tolerance in (0.3, 1e-1, 1e-2, 1e-3):
        rough = solve(oracle, kind, lam, alpha, tolerance)
        bound = gap(rough.weight, oracle(rough.weight), kind(lam, alpha))
        assert rough.objective - best <= bound + 1e-12
        assert bound <= 30 * tolerance


def test_the_gap_holds_on_rows_whose_features_are_not_centred():
    """Held-out rows take part in the statistics, so the fitted ones have means of their own."""
    x, y = small()
    index = x[:, :4].sum(1).argsort()[:300].sort().values
    shifted = design_matrix(Rows(x), column_statistics(x), index=index)
    oracle = MemoryOracle(shifted, y[index], 6)
    assert shifted[:, :4].mean(0).abs().max() > 0.3
    lam = 0.05 * largest(oracle, ElasticNet, 0.99)
    best = solve(oracle, ElasticNet, lam, 0.99, 1e-8)
    gap = DualityGap(oracle)
    assert torch.allclose(gap.means, shifted[:, :-1].mean(0), atol=1e-10)
    assert gap(best.weight, oracle(best.weight), ElasticNet(lam, 0.99)) <= 1e-6
    rough = solve(oracle, ElasticNet, lam, 0.99, 0.3)
    bound = gap(rough.weight, oracle(rough.weight), ElasticNet(lam, 0.99))
    assert rough.objective - best.objective <= bound


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_scikit_learn_finds_the_same(problem, share):
    z, y, oracle = problem
    lam = share * largest(oracle, ElasticNet, 0.99)
    found = solve(oracle, ElasticNet, lam, 0.99)
    theirs = LogisticRegression(solver="saga", l1_ratio=0.99, C=1 / (len(y) * lam), tol=1e-7, max_iter=20_000)
    theirs.fit(z.numpy(), y.numpy())
    w, b = torch.from_numpy(theirs.coef_), torch.from_numpy(theirs.intercept_)
    assert found.objective <= naive_objective(z, y, w, b, lam, 0.99) + 1e-9
    assert torch.allclose(found.weight[:, :-1], w, atol=1e-3)
    gap = DualityGap(oracle)(found.weight, found.evaluation, ElasticNet(lam, 0.99))
    assert naive_objective(z, y, w, b, lam, 0.99) - found.objective >= -gap - 1e-12


def test_the_case_that_glm_saga_tests_itself_on():
    """make_classification, 3 classes, α = 0.5, half the largest λ: scikit-learn, the package and we agree."""
    glm = pytest.importorskip("glm_saga.elasticnet")
    x, y = make_classification(n_features=10, random_state=0, n_classes=3, n_informative=3)
    z = torch.from_numpy((x - x.mean(0)) / x.std(0)).float()
    y = torch.from_numpy(y).long()
    lam = glm.maximum_reg(z, y, group=False) / 0.5 / 2
    oracle = MemoryOracle(design_matrix(Rows(z), column_statistics(z)), y, 3)
    assert 2 * lam == pytest.approx(largest(oracle, ElasticNet, 0.5), rel=1e-5)
    found = solve(oracle, ElasticNet, lam, 0.5, 1e-3)
    theirs = LogisticRegression(solver="saga", l1_ratio=0.5, C=1 / (len(y) * lam), tol=1e-6, max_iter=2000)
    theirs.fit(z.numpy(), y.numpy())
    assert torch.allclose(found.weight[:, :-1], torch.from_numpy(theirs.coef_).double(), atol=1e-3)
    linear = torch.nn.Linear(10, 3)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    glm.train(linear, z, y, 1.0, 2000, lam, 0.5, group=False)
    assert torch.allclose(found.weight[:, :-1].float(), linear.weight, atol=1e-3)
    assert found.objective <= glm.elastic_loss(linear, z, y, lam, 0.5).item() + 1e-6


def test_group_solution_zeroes_whole_columns_and_proximal_gradient_agrees(problem):
    z, y, oracle = problem
    lam, alpha = 0.2 * largest(oracle, GroupElasticNet, 0.8), 0.8
    found = solve(oracle, GroupElasticNet, lam, alpha, 1e-8)
    w = found.weight[:, :-1]
    columns = (w != 0).sum(0)
    assert set(columns.tolist()) <= {0, 6}
    assert 0 < (columns > 0).sum() < 24
    # plain proximal gradient, 4000 steps of the naive operator
    v, b = torch.zeros(6, 24, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    one_hot = torch.nn.functional.one_hot(y, 6).double()
    for _ in range(4000):
        a = (torch.softmax(z @ v.t() + b, 1) - one_hot) / len(z)
        v, b = v - 0.5 * a.t() @ z, b - 0.5 * a.sum(0)
        v = v * (1 - 0.5 * lam * alpha / v.norm(dim=0)).clamp(min=0) / (1 + 0.5 * lam * (1 - alpha))
    assert found.objective <= naive_objective(z, y, v, b, lam, alpha, group=True) + 1e-10
    assert torch.allclose(w, v, atol=1e-4)


def test_float32_reaches_the_objective_of_float64():
    x, y = small()
    s = column_statistics(x)
    exact = MemoryOracle(design_matrix(Rows(x), s), y, 6)
    rough = MemoryOracle(design_matrix(Rows(x.float()), s), y, 6)
    for share in (0.3, 0.01):
        lam = share * largest(exact, ElasticNet, 0.99)
        a, b = solve(exact, ElasticNet, lam, 0.99, 1e-3), solve(rough, ElasticNet, lam, 0.99, 1e-3)
        assert b.converged
        assert a.objective == pytest.approx(b.objective, rel=1e-6)


def test_stops_where_asked_and_says_so(problem):
    _, _, oracle = problem
    lam = 0.001 * largest(oracle, ElasticNet, 0.99)
    found = minimise(oracle, ElasticNet(lam, 0.99), oracle.bias_only(), 1e-9 * lam, max_passes=5)
    assert not found.converged
    assert found.passes <= 7


def test_grid_ends():
    grid = lambda_grid(2.0, 100, 1e-3)
    assert grid[0] == 2.0
    assert grid[-1] == pytest.approx(2e-3, rel=1e-12)
    assert len(grid) == 100
    assert lambda_grid(2.0, 1, 1e-3) == [2.0]
