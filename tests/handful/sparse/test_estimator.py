import numpy as np
import pytest
import torch
from sklearn.base import clone

from handful.assignment import BinaryAssignmentClassifier
from handful.errors import UserError
from handful.sparse import ElasticNetClassifier, elastic_net_path
from tests.handful.sparse.problems import small

X, Y = (part.numpy() for part in small(n=500, f=12, c=4))
NAMES = np.array(["wren", "jay", "kite", "tern"])[Y]


@pytest.fixture(scope="module")
def model():
    return ElasticNetClassifier(features_per_class=4, n_lambdas=25, epsilon=0.01).fit(X, NAMES)


def test_predicts_labels_of_any_kind_better_than_chance(model):
    assert set(model.predict(X)) <= set(NAMES)
    assert model.score(X, NAMES) > 0.6
    assert np.allclose(model.predict_proba(X).sum(1), 1)


def test_coefficients_act_on_raw_features(model):
    assert model.coef_path_.shape == (len(model.lambdas_), 4, 12)
    path = elastic_net_path(
        torch.from_numpy(X), torch.from_numpy(np.unique(NAMES, return_inverse=True)[1]),
        n_lambdas=25, epsilon=0.01, stop_density=4,
    )  # fmt: skip
    z = (X - X.mean(0)) / X.std(0)
    for place in (0, 5, -1):
        ours = X @ model.coef_path_[place].T + model.intercept_path_[place]
        assert np.allclose(ours, z @ path[place].weight.numpy().T + path[place].bias.numpy(), atol=1e-8)
    assert (model.coef_ != 0).sum() / 4 <= 4


def test_clones_and_sets_parameters(model):
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert copy.set_params(alpha=0.5).alpha == 0.5


@pytest.mark.parametrize("kind", [ElasticNetClassifier, BinaryAssignmentClassifier])
def test_a_fit_that_fails_leaves_the_estimator_as_it_was(kind):
    """It had other classes and another number of features afterwards, and could not predict any more."""
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(30, 6)), np.arange(30) % 3
    X[:, :3] += 3 * np.eye(3)[y]
    model = kind(**({"n_lambdas": 5} if kind is ElasticNetClassifier else {"n_features": 4, "features_per_class": 2}))
    before = model.fit(X, y).predict_proba(X)
    for bad in ((X[:, :4], np.zeros(30)), (np.ones((30, 4)), y)):
        with pytest.raises(UserError):
            model.fit(*bad)
        assert (model.predict_proba(X) == before).all()


@pytest.mark.parametrize("name", ["warm_start", "progress"])
def test_a_word_is_no_truth_value(name):
    with pytest.raises(UserError, match=f"{name}: expected true or false, got 'no'"):
        ElasticNetClassifier(**{name: "no"}).fit([[0.0], [1.0]], [0, 1])


def test_warm_start_spares_passes():
    model = ElasticNetClassifier(n_lambdas=20, warm_start=True).fit(X, NAMES)
    cold = sum(point.passes for point in model.path_)
    before = model.coef_
    model.fit(X, NAMES)
    assert sum(point.passes for point in model.path_) < 0.5 * cold
    assert np.allclose(model.coef_, before, atol=1e-6)


def test_saved_and_loaded(model, tmp_path):
    model.save(tmp_path / "model.npz")
    back = ElasticNetClassifier.load(tmp_path / "model.npz")
    assert np.array_equal(back.predict(X), model.predict(X))
    assert back.get_params() == model.get_params()
    assert back.path_.records() == model.path_.records()
    (tmp_path / "no.npz").write_bytes(b"no")
    with pytest.raises(UserError, match=r"no\.npz"):
        ElasticNetClassifier.load(tmp_path / "no.npz")
