"""The estimator against the parts it is made of, and against scikit-learn's own checks."""

import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from handful.assignment import BinaryAssignmentClassifier, class_correlation, qpm_problem, solve
from handful.errors import UserError


def synthetic(classes=8, features=30, images=400):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % classes
    means = 2 * (torch.rand(classes, features, generator=generator) < 0.2)
    return (means[labels] + torch.rand(images, features, generator=generator)).numpy(), labels.numpy()


X, Y = synthetic()

#: Three classes with two features cannot each have a set of their own: {0} and {1} are all there are of one size.
TWO_FEATURES = "its data have two features and three classes, which cannot all have different sets"

#: Checks that cannot pass, and why.
EXPECTED_FAILURES = {
    "check_estimators_overwrite_params": TWO_FEATURES,
    "check_estimators_fit_returns_self": TWO_FEATURES,
    "check_readonly_memmap_input": TWO_FEATURES,
    "check_classifiers_classes": TWO_FEATURES,
    "check_classifiers_train": TWO_FEATURES,
}


@pytest.mark.filterwarnings("ignore:n_features", "ignore:features_per_class")
@parametrize_with_checks(
    [BinaryAssignmentClassifier(restarts=0, patience=5)], expected_failed_checks=lambda _: EXPECTED_FAILURES
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_the_expected_failures_are_of_that_reason_and_no_other():
    reported = check_estimator(
        BinaryAssignmentClassifier(restarts=0, patience=5), expected_failed_checks=EXPECTED_FAILURES,
        on_skip=None, on_fail=None,
    )  # fmt: skip
    failed = [one for one in reported if one["status"] in ("xfail", "failed")]
    assert {one["check_name"] for one in failed} == set(EXPECTED_FAILURES)
    assert all("2 features allow 2 different sets of 1, fewer than the 3" in str(one["exception"]) for one in failed)


def test_it_is_constants_solver_and_sums():
    model = BinaryAssignmentClassifier(n_features=12, features_per_class=3).fit(X, Y)
    problem = qpm_problem(
        class_correlation(torch.from_numpy(X), torch.from_numpy(Y)), n_features=12, features_per_class=3
    )
    assert model.selection_.tolist() == solve(problem).selection.tolist()
    assert not problem.violations(model.assigned_.selection, model.assigned_.assignment)
    assert (model.assignment_.sum(axis=1) == 3).all()
    assert ((model.coef_ != 0).sum(axis=1) == 3).all()
    assert model.score(X, Y) > 0.8


def test_shuffled_images_make_the_same_choice_and_labels_may_be_names():
    model = BinaryAssignmentClassifier(n_features=12, features_per_class=3).fit(X, Y)
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(1)).numpy()
    names = [f"class {label}" for label in Y[order]]
    again = BinaryAssignmentClassifier(n_features=12, features_per_class=3).fit(X[order], names)
    assert again.selection_.tolist() == model.selection_.tolist()
    assert again.assignment_.tolist() == model.assignment_.tolist()
    assert again.predict(X[:3]).tolist() == [f"class {label}" for label in model.predict(X[:3])]


def test_with_relu_a_feature_below_its_mean_is_absent():
    model = BinaryAssignmentClassifier(n_features=12, features_per_class=3, relu=True).fit(X, Y)
    scores = model.decision_function(X)
    assert scores.min() >= 0
    chosen = X[:, model.selection_]
    present = ((chosen - chosen.mean(axis=0)) / chosen.std(axis=0)).clip(min=0)
    assert scores == pytest.approx(present @ model.assignment_.T, abs=1e-5)


def test_a_search_over_its_sizes():
    search = GridSearchCV(
        BinaryAssignmentClassifier(restarts=0, patience=10),
        {"n_features": [6, 12], "features_per_class": [2, 3]}, cv=2, error_score="raise",
    )  # fmt: skip
    assert search.fit(X, Y).best_score_ > 0.7


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="features_per_class: expected at least 1, got 0"):
        BinaryAssignmentClassifier(features_per_class=0).fit(X, Y)
    with pytest.raises(UserError, match="2 features allow 2 different sets of 1, fewer than the 8 classes"):
        BinaryAssignmentClassifier().fit(X[:, :2], Y)
