"""Two processes against one: rows dealt out in turn, uneven shares."""

import pytest
import torch
import torch.distributed as dist

from handful.sparse import column_statistics, elastic_net_path, fit_sparse_layer, select_features
from handful.sparse.cut import fit_bias
from handful.sparse.hessian import blocks_pay
from handful.sparse.oracle import DistributedOracle, MemoryOracle
from handful.sparse.rows import Rows
from handful.sparse.split import hold_out
from handful.sparse.standardise import design_matrix
from tests.handful.sparse.problems import small
from tests.helpers.two_processes import every_second, on_two_processes

FEATURES, LABELS = small(n=601, f=24, c=6)


def fit(features, labels, group, few):
    """`few` rows: too few beside the blocks of the Hessian for one of two processes, not for both together."""
    design = design_matrix(Rows(features[few]), column_statistics(features[few], group=group))
    oracle = MemoryOracle(design, labels[few], 6)
    statistics = column_statistics(features, group=group)
    path = elastic_net_path(
        features, labels, n_lambdas=10, epsilon=0.05, num_classes=6, group=group
    )
    head, record = fit_sparse_layer(features, labels, 10, 3, group=group, num_classes=6, n_lambdas=30)
    refit, _ = fit_sparse_layer(
        features, labels, 10, 3, group=group, num_classes=6, n_lambdas=30, cut="refit", choose="validation"
    )
    far = torch.zeros(6, 24, dtype=torch.float64)
    far[1, 0], far[2, 0] = 30.0, -30.0  # steps of the bias are cut
    every = oracle if group is None else DistributedOracle(oracle, group)
    return {
        "far bias": fit_bias(every, far),
        "mean": statistics.mean,
        "std": statistics.std,
        "path": torch.stack([p.weight for p in path]),
        "blocks": blocks_pay(every),
        "records": [(p.objective, p.density) for p in path],
        "features": select_features(features, labels, 10, group=group, num_classes=6).features,
        "selection": head.selection,
        "weight": head.weight,
        "bias": head.bias,
        "refit": refit.weight,
        "val": record.layer["val_accuracy"],
    }


def of_rank(rank):
    mine = torch.arange(601)[every_second(rank)]
    found = fit(FEATURES[mine], LABELS[mine], dist.group.WORLD, mine < 240)
    return found | {"held": mine[hold_out(LABELS[mine], 0.1, 0, dist.group.WORLD)[1]]}


@pytest.fixture(scope="module")
def both():
    return fit(FEATURES, LABELS, None, torch.arange(601) < 240), on_two_processes(of_rank)


def test_ranks_agree_to_the_last_bit(both):
    first, second = both[1]
    for name in ("mean", "std", "path", "selection", "weight", "bias", "refit", "far bias"):
        assert torch.equal(first[name], second[name]), name
    assert first["records"] == second["records"]


def test_two_processes_find_what_one_finds(both):
    one, (two, _) = both
    assert torch.allclose(one["mean"], two["mean"], atol=1e-12)
    assert torch.allclose(one["std"], two["std"], atol=1e-12)
    assert one["features"] == two["features"]
    assert one["blocks"]
    assert two["blocks"]
    assert torch.equal(one["selection"], two["selection"])
    for name in ("path", "weight", "refit"):
        assert torch.equal(one[name] != 0, two[name] != 0), name
        assert torch.allclose(one[name], two[name], atol=1e-6), name
    for name in ("bias", "far bias"):
        assert torch.allclose(one[name], two[name], atol=1e-6), name
    for a, b in zip(one["records"], two["records"], strict=True):
        assert a == pytest.approx(b, abs=1e-9)
    assert one["val"] == pytest.approx(two["val"], abs=1e-12)


def test_the_same_rows_are_held_out(both):
    _, (first, second) = both
    apart = sorted(torch.cat([first["held"], second["held"]]).tolist())
    assert apart == hold_out(LABELS, 0.1, 0)[1].tolist()
