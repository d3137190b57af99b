"""Arguments that make no sense end in one sentence at every function of the sparse solvers; odd but sound ones work."""

import numpy as np
import pytest
import torch

from handful.errors import UserError
from handful.sparse import column_statistics, elastic_net_path, fit_sparse_layer, select_features

Y = torch.arange(60) % 3
X = torch.randn(60, 6, generator=torch.Generator().manual_seed(0)) + torch.nn.functional.one_hot(Y, 6)
NAN = float("nan")


def layer(features=X, labels=Y, n_features=3, features_per_class=2, **options):
    options = {"n_lambdas": 3, "epsilon": 0.1} | options
    return fit_sparse_layer(features, labels, n_features, features_per_class, **options)


def path(**options):
    return elastic_net_path(X, Y, **{"n_lambdas": 3, "epsilon": 0.1} | options)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("num_classes", [0, 1, 2, 4, 2.5, "3", True]),
        ("alpha", [NAN, -1, 2, "x", None, torch.tensor(0.5)]),
        ("seed", [-1, 2**70, 1.5, "x", None]),
        ("val_fraction", [-0.1, 1.0, NAN, "x", None]),
        ("n_features", [0, -1, 7, 2.0, "3", True]),
        ("features_per_class", [0, 4, 1.5, NAN]),
        ("solver", ["newton", None]),
        ("n_lambdas", [0, 2.5, None, 1]),
        ("epsilon", [0, 1, NAN, "x"]),
        ("tolerance", [0, -1, NAN]),
        ("device", ["cuda:77", "moon"]),
        ("selection", ["dice", [1, 2, 3], select_features(X, Y, 2)]),
        (
            "val",
            [(X[:, :3], Y), (X[:10], Y), (X * NAN, Y), (X, Y + 1), (X,), X, (X.long(), Y)],
        ),
        (
            "features",
            [X.long(), X.tolist(), X[0], X[None], X[:0], X[:, :0], "gone.npy", ["gone.npy"], None, 5, X.to_sparse(),
             X.to(torch.complex64), X.numpy().astype(object), X * 1e30, torch.full_like(X, 1.0), X * NAN],
        ),
    ],
)  # fmt: skip
def test_of_the_sparse_layer(name, values):
    for value in values:
        with pytest.raises(UserError):
            print(name, value, layer(**{name: value}))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("columns", [torch.tensor([9]), torch.tensor([-1]), [0.5], torch.tensor([]).long(), "a"]),
        ("index", [torch.arange(99), torch.tensor([0, 3]), [-1]]),
        ("lambdas", [[], [0.1, NAN], [0.01, 0.1], [0.1, 0.0]]),
        ("statistics", [column_statistics(X[:, :3])]),
        ("stop_density", [-1, NAN]),
        ("max_passes", [0, 1.5]),
        ("val", [(X[:, :3], Y)]),
    ],
)
def test_of_the_path(name, values):
    for value in values:
        with pytest.raises(UserError):
            print(name, value, path(**{name: value}))


def test_odd_but_sound_ones_work():
    expected = layer()[0].weight
    for features in (X.numpy(), X.clone().requires_grad_(), [X[:20], X[20:].numpy()], np.asfortranarray(X.numpy())):
        assert torch.equal(layer(features)[0].weight, expected)
    for options in (
        {"num_classes": np.int64(3)}, {"seed": np.int64(0)}, {"n_features": np.int32(3)}, {"alpha": np.float64(0.99)},
        {"features_per_class": np.int8(2)},
    ):  # fmt: skip
        assert torch.equal(layer(**options)[0].weight, expected)
    assert path(columns=[0, 1])[-1].weight.shape == (3, 2)
    assert len(path(lambdas=np.array([0.1, 0.01]))) == 2
    for features in (X.half(), X.bfloat16(), X * 1e15):
        assert layer(features)[0].weight.isfinite().all()
