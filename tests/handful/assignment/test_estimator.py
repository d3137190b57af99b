"""The estimator against the parts it is made of, and against scikit-learn's own checks."""

import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from handful.assignment import BinaryAssignmentClassifier, class_correlation, qpm_problem, solve
from handful.errors import UserError


def made_up(classes=8, features=30, images=400):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % classes
    means = 2 * (torch.rand(classes, features, generator=generator) < 0.2)
    return (means[labels] + torch.rand(images, features, generator=generator)).numpy(), labels.numpy()


X, Y = made_up()

@parametrize_with_checks([BinaryAssignmentClassifier(restarts=0, patience=5)])
def test_scikit_learns_own_checks(estimator, check):
    try:
        check(estimator)
    except UserError as error:
        if "different sets" not in str(error):
            raise
        pytest.skip(f"this check has too few features to keep its classes apart: {error}")


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
    with pytest.raises(UserError, match="features_per_class: at least 1, not 0"):
        BinaryAssignmentClassifier(features_per_class=0).fit(X, Y)
    with pytest.raises(UserError, match="2 features allow 2 different sets of 1, fewer than the 8 classes"):
        BinaryAssignmentClassifier().fit(X[:, :2], Y)
