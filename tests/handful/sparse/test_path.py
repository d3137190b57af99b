import json
from itertools import pairwise

import pytest
import torch

from handful.errors import UserError
from handful.sparse import PathPoint, RegularisationPath, column_statistics, elastic_net_path
from handful.sparse.oracle import MemoryOracle
from handful.sparse.path import ExactPath
from handful.sparse.rows import Rows
from handful.sparse.search import coarse_to_fine
from handful.sparse.standardise import design_matrix
from tests.handful.sparse.problems import naive_objective, small, standardised


@pytest.fixture(scope="module")
def data():
    return small(dtype=torch.float32)


@pytest.fixture(scope="module")
def path(data):
    return elastic_net_path(*data, n_lambdas=40, epsilon=1e-2, tolerance=1e-3, gap=True, train_accuracy=True)


def test_every_point_is_solved_and_bounded(path):
    assert len(path) == 40
    assert all(p.kkt <= 1e-3 for p in path)
    assert all(-1e-6 <= p.gap <= 1e-3 for p in path)


def test_first_point_is_empty_objective_falls_and_density_grows(path):
    assert path[0].density == 0
    assert path[0].lam == path.lambda_max
    objectives = [p.objective for p in path]
    assert objectives == sorted(objectives, reverse=True)
    densities = [p.density for p in path]
    assert max(a - b for a, b in pairwise(densities)) <= 0.5  # may dip, never far
    assert densities[-1] > 15


def test_objective_and_accuracy_are_those_of_the_weights(data, path):
    z = standardised(data[0])
    for place in (0, 10, 39):
        point = path[place]
        naive = naive_objective(z, data[1], point.weight, point.bias, point.lam, 0.99)
        assert point.objective == pytest.approx(naive, rel=1e-6)
        right = (z @ point.weight.t() + point.bias).argmax(1).eq(data[1]).double().mean().item()
        assert point.train_accuracy == pytest.approx(right, abs=0.002)
        assert point.density == (point.weight != 0).sum().item() / 6


def test_bitwise_determinate(data, path):
    again = elastic_net_path(*data, n_lambdas=40, epsilon=1e-2, tolerance=1e-3, gap=True, train_accuracy=True)
    for a, b in zip(path, again, strict=True):
        assert torch.equal(a.weight, b.weight)
        assert torch.equal(a.bias, b.bias)
    assert path.records() == again.records()


def test_order_of_rows_and_repeated_rows_change_nothing(data):
    x, y = data
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    options = {"n_lambdas": 20, "epsilon": 0.05, "tolerance": 1e-4}
    path = elastic_net_path(x, y, **options)
    shuffled = elastic_net_path(x[order], y[order], **options)
    doubled = elastic_net_path(torch.cat([x, x]), torch.cat([y, y]), **options)
    for other in (shuffled, doubled):
        for a, b in zip(path, other, strict=True):
            assert a.objective == pytest.approx(b.objective, rel=1e-6)


def test_relabelled_classes_permute_the_weights(data):
    x, y = data[0].double(), data[1]
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    options = {"n_lambdas": 10, "epsilon": 0.05, "tolerance": 1e-7}
    a, b = elastic_net_path(x, y, **options)[-1], elastic_net_path(x, order[y], **options)[-1]
    assert torch.allclose(b.weight[order], a.weight, atol=1e-4)


def test_scale_and_offset_of_the_features_change_nothing(data):
    x, y = data[0].double(), data[1]
    options = {"n_lambdas": 10, "epsilon": 0.05, "tolerance": 1e-6}
    a, b = elastic_net_path(x, y, **options)[-1], elastic_net_path(x * 37 - 5, y, **options)[-1]
    assert torch.allclose(a.weight, b.weight, atol=1e-4)


def test_stops_once_denser_than_wanted(data, path):
    short = elastic_net_path(*data, n_lambdas=40, epsilon=1e-2, tolerance=1e-3, stop_density=8.0)
    assert len(short) < len(path)
    assert [p.density > 8 for p in short.points[-2:]] == [True, True]
    assert [p.index for p in short] == list(range(len(short)))


@pytest.mark.parametrize("search", ["bisect", "coarse_to_fine"])
@pytest.mark.parametrize("wanted", [0.1, 3.0, 8.0, 1000.0])
def test_searches_find_the_point_that_the_path_finds(data, path, search, wanted):
    found = elastic_net_path(
        *data, n_lambdas=40, epsilon=1e-2, tolerance=1e-3, search=search, stop_density=wanted
    )
    expected = [p for p in path if p.density <= wanted][-1]
    got = [p for p in found if p.density <= wanted][-1]
    assert got.index == expected.index
    assert got.objective == pytest.approx(expected.objective, rel=1e-5)
    assert [p.index for p in found] == sorted({p.index for p in found})
    if search == "bisect":
        assert len(found) < len(path) / 2


def test_searching_spares_passes_on_all_rows(data):
    options = {"stop_density": 8.0, "tolerance": 1e-2}
    along = elastic_net_path(*data, **options)
    jumped = elastic_net_path(*data, search="coarse_to_fine", **options)
    assert sum(p.passes for p in jumped) < sum(p.passes for p in along)


def test_a_floor_relaxes_only_weak_penalties(data):
    path = elastic_net_path(*data, n_lambdas=30, tolerance=1e-3, floor=0.1)
    for point in path:
        assert point.kkt * point.lam <= 1e-3 * max(point.lam, 0.1 * path.lambda_max) * 1.0001


def test_own_grid_and_warm_start(data, path):
    lams = [p.lam for p in path.points[20:24]]
    cold = elastic_net_path(*data, lambdas=lams, tolerance=1e-3)
    warm = elastic_net_path(*data, lambdas=lams, tolerance=1e-3, warm_start=path.points[20:24])
    assert [p.lam for p in cold] == lams
    assert sum(p.passes for p in warm) < sum(p.passes for p in cold)
    assert warm[0].objective == pytest.approx(cold[0].objective, rel=1e-5)


def test_streaming_and_column_and_row_choices_agree(data):
    x, y = data[0].double(), data[1]
    columns = torch.tensor([5, 2, 11, 7])
    options = {"n_lambdas": 8, "epsilon": 0.05, "tolerance": 1e-6}
    plain = elastic_net_path(x[:, columns], y, **options)
    for other in (
        elastic_net_path(x, y, columns=columns, **options),
        elastic_net_path(x, y, columns=columns, stream=True, **options),
        elastic_net_path([x[:100].numpy(), x[100:].numpy()], y, columns=columns, stream=True, **options),
        elastic_net_path(x, y, columns=columns, index=torch.arange(len(x)), **options),
    ):
        assert torch.allclose(other[-1].weight, plain[-1].weight, atol=1e-9)
        assert torch.allclose(other.mean, plain.mean)


def test_validation_accuracy_is_that_of_the_held_out_rows(data):
    x, y = data
    path = elastic_net_path(x[:400], y[:400], n_lambdas=10, epsilon=0.05, val=(x[400:], y[400:]))
    z = (x[400:].double() - path.mean) / path.std
    for point in path:
        right = (z @ point.weight.t() + point.bias).argmax(1).eq(y[400:]).double().mean().item()
        assert point.val_accuracy == pytest.approx(right, abs=1e-12)


def test_records_are_plain_and_files_come_back(path, tmp_path):
    assert json.loads(json.dumps(path.records())) == path.records()
    path.save(tmp_path / "path.pt")
    torch.load(tmp_path / "path.pt", weights_only=True)
    back = RegularisationPath.load(tmp_path / "path.pt")
    assert back.records() == path.records()
    assert torch.equal(back[7].weight, path[7].weight)
    assert isinstance(back[7], PathPoint)
    (tmp_path / "other.pt").write_bytes(b"nothing")
    for name in ("other.pt", "missing.pt"):
        with pytest.raises(UserError, match=name):
            RegularisationPath.load(tmp_path / name)


def test_pure_ridge_and_pure_lasso_are_solved(data):
    for alpha in (0.0, 1.0):
        path = elastic_net_path(*data, alpha=alpha, n_lambdas=8, epsilon=0.1, tolerance=1e-3)
        assert all(p.kkt <= 1e-3 for p in path)
    assert elastic_net_path(*data, alpha=0.0, n_lambdas=3)[-1].density == 24


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"solver": "magic"}, "solver"),
        ({"search": "luck"}, "search"),
        ({"search": "bisect"}, "stop_density"),
        ({"solver": "saga", "lambdas": [0.1]}, "saga"),
        ({"include_zero": True}, "λ = 0"),
        ({"lambdas": [0.1, 0.2]}, "falling"),
        ({"lambdas": [0.1, 0.0]}, "positive"),
        ({"search": "coarse_to_fine", "stop_density": 2, "stream": True}, "coarse_to_fine"),
        ({"stream": True, "index": torch.arange(500)}, "stream"),
    ],
)
def test_options_that_do_not_go_together_are_refused(data, options, says):
    with pytest.raises(UserError, match=says):
        elastic_net_path(*data, **options)


def test_continuing_the_line_of_the_last_two_points_spares_passes(data, monkeypatch):
    options = {"n_lambdas": 60, "tolerance": 1e-2}
    continued = elastic_net_path(*data, **options)

    def plain(self, index, penalty):
        if index == 0:
            return self.oracle.bias_only(), None
        return self.solved[index - 1].weight, self.solved[index - 1].evaluation

    monkeypatch.setattr(ExactPath, "_start", plain)
    warm = elastic_net_path(*data, **options)
    assert sum(p.passes for p in continued) < 0.7 * sum(p.passes for p in warm)
    assert continued[-1].objective == pytest.approx(warm[-1].objective, rel=1e-4)


def test_biases_sum_to_zero_and_unequal_classes_are_solved(data):
    """A constant added to all biases changes nothing; the records show the centred ones."""
    x, y = data
    uneven = (y > 1) | (torch.arange(len(y)) % 7 == 0)
    path = elastic_net_path(x[uneven], y[uneven], n_lambdas=15, epsilon=0.02)
    assert all(p.kkt <= 1e-2 for p in path)
    assert all(abs(p.bias.sum().item()) < 1e-12 for p in path)


@pytest.mark.parametrize("coarse_rows", [24, 60])
def test_a_poor_sample_costs_passes_but_not_the_answer(data, coarse_rows):
    x, y = data[0].double(), data[1]
    # solved closely, so that no density hangs on where a solve stopped
    path = elastic_net_path(x, y, n_lambdas=20, epsilon=0.05, tolerance=1e-6)
    oracle = MemoryOracle(design_matrix(Rows(x), column_statistics(x)), y, 6)
    for wanted in (2.0, 7.0):
        solver = ExactPath(oracle, [p.lam for p in path], 0.99, tolerance=1e-6)
        found = coarse_to_fine(oracle, solver, wanted, coarse_rows=coarse_rows)
        expected = [p for p in path if p.density <= wanted][-1]
        assert [p for p in found if p.density <= wanted][-1].index == expected.index


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3])
def test_every_point_is_solved_in_float32(tolerance):
    """Down to losses near zero, where a step gains less than the loss is rounded."""
    g = torch.Generator().manual_seed(0)
    far = torch.randn(300, 10, generator=g)
    far += 6 * torch.randn(4, 10, generator=g)[torch.arange(300) % 4]
    for features, labels in (small(dtype=torch.float32), (far, torch.arange(300) % 4)):
        for alpha in (0.99, 1.0):
            path = elastic_net_path(features, labels, alpha=alpha, tolerance=tolerance)
            assert max(point.kkt for point in path) <= tolerance * 1.0001
