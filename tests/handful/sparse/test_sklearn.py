"""`ElasticNetClassifier` is a scikit-learn estimator: its own checks, and what people compose it with."""

import pickle
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from handful.errors import UserError
from handful.sparse import ElasticNetClassifier
from tests.handful.sparse.problems import small

X, Y = (part.numpy() for part in small(n=150, f=6, c=3))
NAMES = np.array(["wren", "jay", "kite"])[Y]


def quick(**options):
    return ElasticNetClassifier(**{"n_lambdas": 5, "epsilon": 0.01} | options)


@parametrize_with_checks([quick()])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_cross_validation_stratifies_as_for_any_classifier():
    # sorted labels: without stratification a fold would lack classes
    order = np.argsort(NAMES)
    assert cross_val_score(quick(), X[order], NAMES[order], cv=3).min() > 0.45
    assert set(cross_val_predict(quick(), X[order], NAMES[order], cv=3)) == set(NAMES)


def test_grid_search_over_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), quick(n_lambdas=20))
    grid = {"elasticnetclassifier__features_per_class": [3, 5], "elasticnetclassifier__alpha": [0.5, 0.9]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise", scoring="neg_log_loss").fit(X, NAMES)
    best = search.best_estimator_[-1]
    assert best.get_params()["alpha"] in (0.5, 0.9)
    assert (best.coef_ != 0).sum() / 3 <= best.features_per_class


@pytest.mark.parametrize("classes", [2, 3])
def test_calibration(classes):
    kept = np.isin(NAMES, np.unique(NAMES)[:classes])
    model = CalibratedClassifierCV(quick(), cv=2).fit(X[kept], NAMES[kept])
    assert np.allclose(model.predict_proba(X).sum(1), 1)


def test_two_classes_have_one_decision_value_and_one_against_rest_works():
    kept = Y < 2
    model = quick().fit(X[kept], NAMES[kept])
    decision = model.decision_function(X[kept])
    assert decision.shape == (kept.sum(),)
    assert ((decision > 0) == (model.predict(X[kept]) == model.classes_[1])).all()
    assert np.allclose(1 / (1 + np.exp(-decision)), model.predict_proba(X[kept])[:, 1])
    assert OneVsRestClassifier(quick()).fit(X, NAMES).score(X, NAMES) > 0.45


def test_names_of_features_are_kept_compared_and_saved(tmp_path):
    model = quick().fit(X, NAMES)
    assert not hasattr(model, "feature_names_in_")
    model.feature_names_in_ = np.array([f"beak {i}" for i in range(6)], dtype=object)
    model.save(tmp_path / "model.npz")
    assert list(ElasticNetClassifier.load(tmp_path / "model.npz").feature_names_in_) == list(model.feature_names_in_)


def test_pickled_and_cloned():
    model = quick(features_per_class=3).fit(X, NAMES)
    again = pickle.loads(pickle.dumps(model))
    assert (again.predict(X) == model.predict(X)).all()
    assert not hasattr(clone(model), "path_")
    with pytest.raises(UserError, match="Invalid parameter 'lpha'"):
        model.set_params(lpha=1)


@pytest.mark.parametrize("labels", [NAMES, Y, Y.astype(np.int8), Y + 10, Y == 1, Y.astype(float), NAMES.astype(object)])
def test_labels_of_any_kind_come_back_as_they_were(labels):
    model = quick().fit(torch.from_numpy(X), labels)
    assert model.predict(X).dtype == labels.dtype
    assert set(model.predict(X)) <= set(labels)
    assert model.score(X, labels) > 0.45
    assert np.allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X))


def test_before_it_is_fitted():
    for error in (NotFittedError, UserError):
        with pytest.raises(error, match="call fit first"):
            quick().predict(X)


def with_value(value):
    bad = X.copy()
    bad[3, 2] = value
    return bad


@pytest.mark.parametrize(
    ("features", "labels", "options", "sentence"),
    [
        (with_value(np.nan), Y, {}, "NaN"),
        (with_value(np.inf), Y, {}, "infinity"),
        (X, np.zeros_like(Y), {}, "only one class"),
        (X[:2], Y[:2] * 0, {}, "only one class"),
        (np.ones_like(X), Y, {}, "none of the 6 has variance"),
        (X, Y[:-1], {}, "inconsistent numbers of samples"),
        (X, Y + 0.5, {}, "Unknown label type"),
        (X[:0], Y[:0], {}, "minimum of 1 is required"),
        (X[:, :0], Y, {}, "minimum of 1 is required"),
        (X[0], Y, {}, "Expected 2D array"),
        (X, np.stack([Y, Y], 1), {}, "1d array"),
        (X, Y, {"alpha": 1.1}, "alpha"),
        (X, Y, {"alpha": np.nan}, "alpha"),
        (X, Y, {"alpha": "0.9"}, "alpha: expected a number"),
        (X, Y, {"n_lambdas": 0}, "n_lambdas"),
        (X, Y, {"n_lambdas": 2.5}, "n_lambdas: expected a whole number"),
        (X, Y, {"n_lambdas": 1}, "no point of the path has a non-zero weight"),
        (X, Y, {"epsilon": 0.0}, "epsilon"),
        (X, Y, {"epsilon": 1.0}, "epsilon"),
        (X, Y, {"tolerance": 0.0}, "tolerance"),
        (X, Y, {"features_per_class": 0}, "features_per_class"),
        (X, Y, {"features_per_class": 7}, "features_per_class"),
        (X, Y, {"features_per_class": 1, "n_lambdas": 2, "epsilon": 1e-3}, "no point of the path has between"),
        (X, Y, {"solver": "newton"}, "solver must be one of exact"),
    ],
)
def test_degenerate_input_is_refused(features, labels, options, sentence):
    with pytest.raises(UserError, match=sentence):
        quick(**options).fit(features, labels)


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        (csr_matrix(X), Y),
        (X, csr_matrix(Y[:, None])),
        (X, np.array([b"a", b"b"] * 75)),
        (np.array([[{}] * 6] * 150), Y),
    ],
)
def test_what_scikit_learn_refuses_by_type_is_both_errors(features, labels):
    for error in (TypeError, UserError):
        with pytest.raises(error):
            quick().fit(features, labels)
    with pytest.raises(UserError, match="Sparse data was passed"):
        quick().fit(X, Y).predict(csr_matrix(X))


@pytest.mark.parametrize("of", [lambda a: a[::-1], lambda a: np.asfortranarray(a), lambda a: np.repeat(a, 2, 0)[::2]])
def test_views_of_arrays(of):
    expected = quick().fit(of(X).copy(), of(Y).copy()).coef_
    assert np.allclose(quick().fit(of(X), of(Y)).coef_, expected)


def test_parameters_of_numpy_are_saved_as_a_search_leaves_them(tmp_path):
    grid = {"alpha": np.array([0.5, 0.9], dtype=np.float32), "n_lambdas": np.arange(4, 6)}
    search = GridSearchCV(quick(), grid, cv=2)
    best = search.fit(X, Y).best_estimator_
    best.save(tmp_path / "model.npz")
    again = ElasticNetClassifier.load(tmp_path / "model.npz")
    assert (again.predict(X) == best.predict(X)).all()
    assert again.get_params()["n_lambdas"] == best.n_lambdas
    with pytest.raises(UserError, match="call fit first"):
        quick().save(tmp_path / "model.npz")


def test_a_search_over_all_solvers():
    solvers = ["exact", "saga"] + (["glm_saga"] if find_spec("glm_saga") else [])
    search = GridSearchCV(quick(n_lambdas=3), {"solver": solvers}, cv=2, error_score="raise")
    search.fit(X.astype(np.float64), Y)
    assert search.cv_results_["mean_test_score"].min() > 0.3
