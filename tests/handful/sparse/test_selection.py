import numpy as np
import pytest
import torch

from benchmarks.sparse_reference import reference_selection
from handful.sparse import column_statistics, select_features
from handful.sparse.minimise import minimise
from handful.sparse.oracle import MemoryOracle
from handful.sparse.penalty import GroupElasticNet
from handful.sparse.rows import Rows
from handful.sparse.saga_selection import select_saga
from handful.sparse.standardise import design_matrix
from tests.handful.sparse.problems import planted, small, standardised


@pytest.mark.parametrize("method", ["greedy", "saga"])
def test_planted_features_are_found(method):
    features, labels, places = planted()
    assert set(select_features(features, labels, 8, method=method).features) == set(places)


def test_near_duplicates_of_the_informative_are_left_out():
    features, labels, places = planted()
    g = torch.Generator().manual_seed(1)
    copies = features[:, places] + 0.1 * torch.randn(len(labels), 8, generator=g)
    chosen = select_features(torch.cat([copies, features], 1), labels, 8).features
    # of every pair, original and copy, exactly one
    origin = [places[c] if c < 8 else c - 8 for c in chosen]
    assert sorted(origin) == sorted(places)


def test_order_of_rows_does_not_matter_nor_do_scales():
    features, labels, _ = planted()
    plain = select_features(features, labels, 10).features
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
    assert select_features(features[order], labels[order], 10).features == plain
    scales = torch.logspace(-2, 2, features.shape[1])
    assert select_features(features * scales + 3, labels, 10).features == plain


def test_greedy_is_what_it_says_step_by_step():
    """A naive forward selection, float64, refits solved to 1e-7: the same features in the same order."""
    x, y = small(n=400, f=16, c=5)
    z = standardised(x)
    one_hot = torch.nn.functional.one_hot(y, 5).double()

    def steepness(chosen, weight):
        ones = torch.ones(len(z), 1, dtype=torch.float64)
        a = torch.softmax(torch.cat([z[:, chosen], ones], 1) @ weight.t(), 1) - one_hot
        return (a.t() @ z / len(z)).norm(dim=0)

    weight = one_hot.mean(0).log()[:, None]
    lam = 0.1 * steepness([], weight).max().item() / 0.8
    chosen, s = [], column_statistics(x)
    for _ in range(6):
        norms = steepness(chosen, weight)
        norms[chosen] = -1
        chosen.append(int(norms.argmax()))
        oracle = MemoryOracle(design_matrix(Rows(x), s, torch.tensor(chosen)), y, 5)
        weight = minimise(oracle, GroupElasticNet(lam, 0.8), oracle.bias_only(), 1e-7 * lam).weight
    found = select_features(x, y, 6, tolerance=1e-5)
    assert found.features == chosen
    assert found.lam == pytest.approx(lam)
    assert [row["feature"] for row in found.log] == chosen


def test_fewer_features_are_a_prefix_and_a_rough_refit_chooses_the_same():
    x, y = small(n=500, f=30, c=6, dtype=torch.float32)
    many = select_features(x, y, 12)
    assert select_features(x, y, 5).features == many.features[:5]
    assert len(set(select_features(x, y, 12, tolerance=1e-3).features) & set(many.features)) >= 11
    assert len(set(many.features)) == 12
    assert many.log == select_features(x, y, 12).log


def test_features_on_disk_are_chosen_alike(tmp_path):
    x, y = small(n=300, f=20, c=4, dtype=torch.float32)
    np.save(tmp_path / "x.npy", x.numpy())
    assert select_features([tmp_path / "x.npy"], y, 6).features == select_features(x, y, 6).features
    saga = {"method": "saga", "seed": 3}
    assert select_features([tmp_path / "x.npy"], y, 4, **saga).features == select_features(x, y, 4, **saga).features


@pytest.mark.parametrize("seed", [0, 1])
def test_saga_is_the_published_procedure_iterate_by_iterate(seed):
    """Against the literal baseline: features, epochs of every phase, final weights."""
    x, y = small(n=400, f=30, c=5, seed=seed, dtype=torch.float32)
    index = torch.randperm(400, generator=torch.Generator().manual_seed(seed))[:360].sort().values
    literal = reference_selection(x, y, 5, 5, index=index, seed=seed)
    found = select_saga(Rows(x), y, 5, 5, column_statistics(x), index=index, seed=seed)
    assert found.features == literal.features
    assert [row["passes"] for row in found.log] == literal.epochs


def test_saga_depends_on_its_seed_and_on_nothing_else():
    x, y = small(n=300, f=30, c=6, dtype=torch.float32)
    a = select_features(x, y, 8, method="saga", seed=0)
    assert select_features(x, y, 8, method="saga", seed=0).features == a.features
    torch.manual_seed(123)
    assert select_features(x, y, 8, method="saga", seed=0).log == a.log


def test_a_smaller_lambda_is_taken_where_no_feature_exceeds_it():
    """Pure noise beside one strong feature: the first λ stops every noise column, yet three are wanted."""
    features, labels, places = planted(n=3000, informative=1, noise=6, c=3)
    found = select_features(features, labels, 4, fraction=0.9)
    assert found.features[0] == places[0]
    assert found.lam < found.log[0]["lam"]
    assert all(row["gradient"] > 1 for row in found.log)
