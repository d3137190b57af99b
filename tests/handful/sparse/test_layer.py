import json

import pytest
import torch

from handful.errors import UserError
from handful.networks import build_head
from handful.sparse import fit_sparse_layer
from handful.sparse.cut import densest_within, fit_bias, kept, refit
from handful.sparse.hessian import ClassBlocks
from handful.sparse.oracle import MemoryOracle
from handful.sparse.path import PathPoint
from handful.sparse.rows import Rows
from handful.sparse.standardise import column_statistics, design_matrix
from tests.handful.sparse.problems import small, standardised

FEATURES, LABELS = small(n=800, f=30, c=6, dtype=torch.float32)


def accuracy(head, features, labels):
    return float((head(features).argmax(1) == labels).double().mean())


def point(density, index=0, weight=None):
    weight = torch.zeros(2, 4) if weight is None else weight
    return PathPoint(index, 0.1, weight, torch.zeros(2), density, 0.0, 0.0, 0)


def test_the_published_choice():
    points = [point(d, i) for i, d in enumerate([0.0, 3.0, 9.5, 9.0, 9.5, 10.5])]
    assert densest_within(points, 10.0).index == 2
    assert densest_within(points, 9.2).index == 3
    # nothing but the empty point fits: the next best is cut further
    assert densest_within([point(0.0, 0), point(12.0, 1), point(15.0, 2)], 10.0).index == 1
    with pytest.raises(UserError, match="features_per_class"):
        densest_within([point(12.0)], 10.0)


def test_cuts_keep_the_largest_by_their_rule():
    weight = torch.tensor([[5.0, -4.0, 3.0, 0.0], [2.0, 1.0, -0.5, 0.2]])
    assert kept(weight, 2, "average").tolist() == [[True, True, True, False], [True, False, False, False]]
    assert kept(weight, 2, "per_class").tolist() == [[True, True, False, False], [True, True, False, False]]
    assert kept(weight, 4, "per_class").tolist() == [[True, True, True, False], [True, True, True, True]]
    assert kept(torch.ones(2, 4), 2, "average").sum() == 4
    assert kept(torch.ones(2, 4), 3, "per_class").sum(1).tolist() == [3, 3]


@pytest.mark.parametrize(("lam", "per_class", "blocks"), [(0.01, 3, False), (1e-4, 10, True)])
def test_refit_moves_only_the_kept_and_solves_it(lam, per_class, blocks, monkeypatch):
    """The weak penalty on many weights takes long enough for the Hessian's blocks."""
    made = []
    monkeypatch.setattr("handful.sparse.minimise.ClassBlocks", lambda them: made.append(them) or ClassBlocks(them))
    s = column_statistics(FEATURES)
    oracle = MemoryOracle(design_matrix(Rows(FEATURES.double()), s), LABELS, 6)
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 30, generator=g, dtype=torch.float64)
    mask = kept(weight, per_class, "average")
    start = PathPoint(0, lam, weight, torch.zeros(6, dtype=torch.float64), 30.0, 0.0, 0.0, 0)
    found, bias = refit(oracle, start, mask, tolerance=1e-8 / lam)
    assert bool(made) == blocks
    assert not found[~mask].any()
    w = found.clone().requires_grad_()
    b = bias.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(standardised(FEATURES) @ w.t() + b, LABELS)
    (loss + 0.5 * lam * w.square().sum()).backward()
    assert w.grad[mask].abs().max() < 1e-6
    assert b.grad.abs().max() < 1e-6


def test_the_bias_of_weights_that_stay():
    """Gradient of the loss by autograd; no step makes it worse; a class without rows gets a number."""
    s = column_statistics(FEATURES)
    oracle = MemoryOracle(design_matrix(Rows(FEATURES.double()), s), LABELS, 7)
    weight = torch.randn(7, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    design = standardised(FEATURES)

    def loss(b):
        return torch.nn.functional.cross_entropy(design @ weight.t() + b, LABELS)

    values = [float(loss(fit_bias(oracle, weight, max_steps=passes))) for passes in range(8)]
    assert values == sorted(values, reverse=True)
    b = fit_bias(oracle, weight, tolerance=1e-8, max_steps=5000).requires_grad_()
    assert float(b.sum()) == pytest.approx(0, abs=1e-9)
    assert b.isfinite().all()
    (gradient,) = torch.autograd.grad(loss(b), b)
    assert gradient[:6].abs().max() < 1e-5


@pytest.mark.parametrize("scale", [3.0, 30.0, 200.0])
def test_the_bias_of_classes_that_are_improbable_everywhere(scale):
    """A step by the curvature of such classes had no bound: a layer of photographs got biases of 10⁸."""
    s = column_statistics(FEATURES)
    oracle = MemoryOracle(design_matrix(Rows(FEATURES.double()), s), LABELS, 6)
    weight = torch.zeros(6, 30, dtype=torch.float64)
    weight[1, 0], weight[2, 0] = scale, -scale  # one of both is ahead of all others, whatever the row
    bias = fit_bias(oracle, weight, tolerance=1e-4, max_steps=2000).requires_grad_()
    assert bias.abs().max() < 5 * scale + 5
    loss = torch.nn.functional.cross_entropy(standardised(FEATURES) @ weight.t() + bias, LABELS)
    (gradient,) = torch.autograd.grad(loss, bias)
    assert gradient.abs().max() < 2e-3


def test_a_ternary_layer_has_the_bias_that_fits_its_weights():
    head, _ = fit_sparse_layer(FEATURES, LABELS, 12, 3, cut="ternary", n_lambdas=40, val_fraction=0)
    head.double()
    bias = head.bias.clone().requires_grad_()
    logits = head.standardise(FEATURES.double()) @ head.weight.t() + bias
    (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, LABELS), bias)
    assert gradient.abs().max() < 1e-4


@pytest.mark.parametrize("cut", ["average", "per_class", "refit"])
@pytest.mark.parametrize("choose", ["density", "validation"])
def test_layer_keeps_its_promises(cut, choose):
    head, record = fit_sparse_layer(FEATURES, LABELS, 12, 3, cut=cut, choose=choose, n_lambdas=40)
    assert head.selection.shape == (12,)
    assert head.weight.shape == (6, 12)
    counts = (head.weight != 0).sum(1)
    assert counts.sum() <= 18
    if cut == "per_class":
        assert counts.max() <= 3
    elif choose == "density":
        assert counts.sum() == 18
    z = standardised(FEATURES)[:, head.selection]
    expected = z @ head.weight.double().t() + head.bias.double()
    assert torch.allclose(head(FEATURES).double(), expected, atol=1e-4)
    details = record.layer
    assert details["counts_per_class"] == counts.tolist()
    assert details["features_per_class"] == counts.sum().item() / 6
    assert details["density_before_cut"] <= (6 if choose == "density" else 12)
    assert json.loads(json.dumps(vars(record))) == vars(record)


def test_refit_is_no_worse_on_the_rows_it_fits_and_validation_choice_on_the_held_out():
    plain = fit_sparse_layer(FEATURES, LABELS, 12, 3)[1].layer
    again = fit_sparse_layer(FEATURES, LABELS, 12, 3, cut="refit")[1].layer
    chosen = fit_sparse_layer(FEATURES, LABELS, 12, 3, choose="validation")[1].layer
    assert again["train_accuracy"] >= plain["train_accuracy"]
    assert chosen["val_accuracy"] >= plain["val_accuracy"]


def test_accuracies_in_the_records_are_true():
    val = (FEATURES[600:], LABELS[600:])
    head, record = fit_sparse_layer(FEATURES[:600], LABELS[:600], 10, 3, val=val)
    details = record.layer
    assert details["train_accuracy"] == pytest.approx(accuracy(head, FEATURES[:600], LABELS[:600]), abs=0.002)
    assert details["val_accuracy"] == pytest.approx(accuracy(head, *val), abs=0.006)
    row = record.path[details["index"]]
    assert row["density"] == details["density_before_cut"]
    assert {"lam", "density", "objective", "kkt", "train_accuracy", "val_accuracy"} <= row.keys()


def test_all_solvers_write_the_same_records():
    records = [
        fit_sparse_layer(FEATURES, LABELS, 8, 3, solver=solver, n_lambdas=4, epsilon=0.5)[1]
        for solver in ("exact", "saga", "glm_saga")
    ]
    assert len({tuple(record.layer) for record in records}) == 1
    assert len({tuple(record.path[0]) for record in records}) == 1


def test_determinate_and_streaming_alike():
    (a, first), (b, second) = fit_sparse_layer(FEATURES, LABELS, 8, 3), fit_sparse_layer(FEATURES, LABELS, 8, 3)
    assert torch.equal(a.weight, b.weight)
    assert first == second
    streamed, _ = fit_sparse_layer([FEATURES.double()], LABELS, 8, 3, stream=True, val_fraction=0)
    kept_in_memory, _ = fit_sparse_layer(FEATURES.double(), LABELS, 8, 3, val_fraction=0)
    assert streamed.selection.tolist() == kept_in_memory.selection.tolist()
    assert torch.allclose(streamed.weight, kept_in_memory.weight, atol=1e-6)


def test_as_many_features_as_there_are():
    head, _ = fit_sparse_layer(FEATURES[:, :4], LABELS, 4, 4)
    assert sorted(head.selection.tolist()) == [0, 1, 2, 3]


def test_the_head_is_one_of_the_network_and_lives_in_its_description_and_state():
    head, record = fit_sparse_layer(FEATURES, LABELS, 8, 3)
    assert head.num_features == FEATURES.shape[1]
    assert not head.training
    weight, bias = head.class_weights()
    assert torch.allclose(FEATURES @ weight.T + bias, head(FEATURES), atol=1e-4)
    assert (head.n_features, head.features_per_class) == (
        record.layer["n_features"], record.layer["features_per_class"]
    )  # fmt: skip
    again = build_head(json.loads(json.dumps(head.describe()))).eval()
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(FEATURES), head(FEATURES))
