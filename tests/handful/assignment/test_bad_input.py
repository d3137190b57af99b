"""What cannot be solved ends in one sentence, or in the documented relaxation with a warning."""

import math
import warnings

import numpy as np
import pytest
import torch

from handful.assignment import (
    BinaryAssignmentClassifier,
    ClassSums,
    Search,
    class_correlation,
    qpm_problem,
    solve,
)
from handful.errors import UserError

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(80) % 8
X = torch.rand(80, 20, generator=GENERATOR) + 2 * torch.eye(8, 20)[LABELS]
A = class_correlation(X, LABELS)
QUICK = Search(restarts=0, patience=5)


def changed(row, column, value):
    found = X.clone()
    found[row, column] = value
    return found


@pytest.mark.parametrize(("features", "labels", "words"), [
    (changed(3, 7, math.nan), LABELS, "the values of feature 7 are not all finite"),
    (changed(3, 7, -math.inf), LABELS, "the values of feature 7 are not all finite"),
    (X[:0], LABELS[:0], "at least one image"),
    (X[0], LABELS[:1], r"shape \(images, features\)"),
    (X, LABELS[:-1], "expected 80 of them"),
    (X, LABELS - 1, "-1 lies outside"),
    (X, LABELS + 0.5, "fraction or NaN"),
    (X, ["jay"] * 80, "got text"),
    ([["a"] * 20] * 80, LABELS, "features: expected numbers"),
], ids=["nan", "inf", "none", "flat", "few labels", "negative", "fraction", "names", "text"])  # fmt: skip
def test_features_and_labels_that_are_none(features, labels, words):
    with pytest.raises(UserError, match=words):
        class_correlation(features, labels)


def test_labels_beyond_the_classes():
    with pytest.raises(UserError, match="7 lies outside the 5 classes"):
        class_correlation(X, LABELS, 5)


def test_sums_of_another_number_of_features():
    with pytest.raises(UserError, match=r"features: shape \(images, 19\), not \(80, 20\)"):
        ClassSums(8, 19).update(X, LABELS)


@pytest.mark.parametrize(("options", "words"), [
    ({"n_features": 21}, "n_features: 21, but there are only 20 features"),
    ({"n_features": 2}, "2 is fewer than features_per_class, 3"),
    ({"n_features": 3, "features_per_class": 3}, "3 features allow 1 different sets of 3, fewer than the 8 classes"),
    ({"n_features": 12, "features_per_class": 1}, "can use at most 8 features, not 12"),
    ({"n_features": 0}, "n_features: expected at least 1, got 0"),
    ({"features_per_class": -1}, "features_per_class: expected at least 1, got -1"),
    ({"n_features": 8.0}, "n_features: expected a whole number, got 8.0"),
    ({"rho": -0.1}, "rho: 0 to 3.5 pairs per class, not -0.1"),
    ({"rho": 4}, "rho: 0 to 3.5 pairs per class, not 4"),
    ({"rho": math.nan}, "rho"),
    ({"rho": "half"}, "rho: expected a number, got 'half'"),
    ({"threshold": math.nan}, "threshold: a similarity of at least 0"),
    ({"threshold": -1.0}, "threshold: a similarity of at least 0"),
    ({"threshold": "auto"}, "threshold: a similarity of at least 0"),
], ids=str)  # fmt: skip
def test_options_that_cannot_be(options, words):
    with pytest.raises(UserError, match=words):
        qpm_problem(A, **{"n_features": 8, "features_per_class": 3, **options})
    if {"n_features", "features_per_class"}.isdisjoint(options) or "expected" in words:
        with pytest.raises(UserError, match=words):
            BinaryAssignmentClassifier(**{"n_features": 8, "features_per_class": 3, **options}).fit(
                X.numpy(), LABELS.numpy()
            )


@pytest.mark.parametrize(("name", "value"), [
    ("restarts", -1), ("restarts", math.inf), ("patience", 1.5), ("patience", "few"), ("seed", -1), ("seed", True),
    ("seed", 2**63),
])  # fmt: skip
def test_a_search_that_cannot_be(name, value):
    with pytest.raises(UserError, match=f"{name}: "):
        Search(**{name: value})
    with pytest.raises(UserError, match=f"{name}: "):
        BinaryAssignmentClassifier(**{name: value}).fit(X.numpy(), LABELS.numpy())


def test_a_bias_of_other_features_or_not_finite():
    for bias, words in ((torch.zeros(19), "bias: expected shape"), (torch.full((20,), math.nan), "not finite")):
        with pytest.raises(UserError, match=words):
            qpm_problem(A, bias, n_features=8, features_per_class=3)
    with pytest.raises(UserError, match="correlation: holds values that are not finite"):
        qpm_problem(A * math.nan, n_features=8, features_per_class=3)


def test_one_class():
    with pytest.raises(UserError, match="1 classes; at least two"):
        qpm_problem(class_correlation(X, torch.zeros(80)), n_features=3, features_per_class=3)
    with pytest.raises(UserError, match="at least two classes"):
        BinaryAssignmentClassifier().fit(X.numpy(), np.zeros(80))


@pytest.mark.parametrize("constant", [0.0, 3.7, -1e3])
def test_features_that_do_not_vary_are_never_chosen(constant):
    """Though none is similar to another and so none costs a penalty."""
    features = torch.cat([torch.full((80, 30), constant), X + constant], dim=1)
    problem = qpm_problem(class_correlation(features, LABELS), n_features=20, features_per_class=3)
    solution = solve(problem, QUICK)
    assert solution.selection.tolist() == list(range(30, 50))
    with pytest.warns(UserWarning, match="n_features: 20 instead of 50, for 20 features that vary"):
        model = BinaryAssignmentClassifier(features_per_class=3, restarts=0).fit(features.numpy(), LABELS.numpy())
    assert model.selection_.tolist() == list(range(30, 50))


def test_more_features_than_vary():
    features = torch.cat([torch.full((80, 30), 3.0), X], dim=1)
    with pytest.raises(UserError, match="n_features: 21, but only 20 of 50 features vary with the classes"):
        qpm_problem(class_correlation(features, LABELS), n_features=21, features_per_class=3)
    with pytest.raises(UserError, match="0 feature"):
        BinaryAssignmentClassifier().fit(np.ones((80, 20)), LABELS.numpy())


def test_a_class_without_images_is_named():
    with pytest.warns(UserWarning, match="classes without images, whose features mean nothing: 3, 5"):
        gaps = class_correlation(X, LABELS + (LABELS > 2).long() + (LABELS > 3).long())
    assert gaps.shape == (10, 20)
    problem = qpm_problem(gaps, n_features=8, features_per_class=3)
    solution = solve(problem, QUICK)
    assert not problem.violations(solution.selection, solution.assignment)
    with warnings.catch_warnings():  # an estimator numbers the labels it meets
        warnings.simplefilter("error")
        model = BinaryAssignmentClassifier(n_features=8, features_per_class=3, restarts=0)
        model.fit(X.numpy(), 10 * LABELS.numpy())
    assert model.classes_.tolist() == list(range(0, 80, 10))


def test_pairs_that_cannot_all_be_are_said():
    model = BinaryAssignmentClassifier(n_features=18, features_per_class=3, rho=3.5, restarts=0)
    with pytest.warns(UserWarning, match="rho: 28 pairs of classes were to share all features but one, [0-9]+ do"):
        model.fit(X.numpy(), LABELS.numpy())
    assert model.assigned_.pairs < model.problem_.pairs


def test_fewer_sets_than_classes_take_fewer_features_per_class():
    with pytest.warns(UserWarning, match="features_per_class: 3 instead of 5, for 5 features that vary and 8 classes"):
        model = BinaryAssignmentClassifier(restarts=0).fit(X[:, :5].numpy(), LABELS.numpy())
    assert (model.assignment_.sum(axis=1) == 3).all()


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.float16, torch.float64])
def test_numbers_of_any_kind_and_below_zero(kind):
    whole = (10 * X).round()
    expected = class_correlation(whole, LABELS)
    assert class_correlation(whole.to(kind), LABELS.to(torch.int32)).equal(expected)
    assert class_correlation(whole.to(kind).tolist(), LABELS.tolist()).equal(expected)
    assert class_correlation(-whole, LABELS).equal(-expected)
    model = BinaryAssignmentClassifier(n_features=8, features_per_class=3, restarts=0)
    assert model.fit(whole.to(kind).numpy(), LABELS.numpy()).score(whole.numpy(), LABELS.numpy()) > 0.5
