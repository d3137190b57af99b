"""A scikit-learn style estimator: features chosen and assigned to classes, and a binary layer on them."""

from __future__ import annotations

import warnings
from math import comb
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from handful.assignment.constants import check_rho, class_correlation, qpm_problem
from handful.assignment.problem import Assignment, AssignmentProblem
from handful.assignment.search import Search
from handful.assignment.solve import solve
from handful.conversions import as_float, check_whole
from handful.errors import UserError
from handful.scikit import LinearClassifier, all_or_nothing


class BinaryAssignmentClassifier(LinearClassifier):
    """Every class is the sum of k of n chosen features, in units of their standard deviations.

    A scikit-learn estimator of QPM's head before finetuning.

    Args:
        n_features: how many features may decide, at most; fewer where fewer of X vary, or the classes use fewer. A
            warning says how many.
        features_per_class: k, at most; fewer where there would be fewer sets than classes. A warning says how many.
        threshold: from which similarity on a pair of features is penalised; the smallest that leaves n mutually
            dissimilar features where None, infinite for no penalty.
        rho: share of classes' number that is the number of pairs of classes to share k − 1 features; a warning says
            how many do where so many cannot.
        relu: whether a feature below its mean counts as absent.
        restarts: of the local search.
        patience: of the local search.
        seed: of the local search.

    Attributes:
        classes_: (C,) the labels.
        selection_: (n,) the chosen columns of X, ascending.
        assignment_: (C, n) Booleans.
        problem_: the `AssignmentProblem` of the columns that vary, assigned_: its solution, for `upper_bound`.
        coef_, intercept_: (C, F) and (C,) on the raw features, without the ReLU.
        n_features_in_: F.

    Example:
        >>> X, y = [[0.0, 1.0, 0.2], [0.1, 0.9, 0.1], [1.0, 0.0, 0.3], [0.9, 0.1, 0.2]], ["jay", "jay", "wren", "wren"]
        >>> model = BinaryAssignmentClassifier(n_features=2, features_per_class=1).fit(X, y)
        >>> model.predict([[0.95, 0.1, 0.2]]), model.selection_
        (array(['wren'], dtype='<U4'), array([0, 1]))
    """

    assigned_: Assignment
    problem_: AssignmentProblem

    def __init__(
        self,
        *,
        n_features: int = 50,
        features_per_class: int = 5,
        threshold: float | None = None,
        rho: float = 0.0,
        relu: bool = False,
        restarts: int = 30,
        patience: int = 100,
        seed: int = 0,
    ) -> None:
        self.n_features = n_features
        self.features_per_class = features_per_class
        self.threshold = threshold
        self.rho = rho
        self.relu = relu
        self.restarts = restarts
        self.patience = patience
        self.seed = seed

    @all_or_nothing
    def fit(self, X: ArrayLike, y: ArrayLike) -> BinaryAssignmentClassifier:
        """Chooses features (N, F) for labels (N,) of any kind.

        Raises:
            UserError: for bad input; for too few features to keep the classes apart.
        """
        search = Search(self.patience, self.restarts, seed=self.seed)
        found, numbers = self._labelled(X, y)
        check_rho(self.rho, len(self.classes_))
        features, labels = as_float(found, found.shape, "X").double(), torch.from_numpy(numbers)
        correlation = class_correlation(features, labels, len(self.classes_))
        varying = correlation.any(dim=0).nonzero()[:, 0]
        n, k = self._sizes(len(varying))
        self.problem_ = qpm_problem(
            correlation[:, varying], n_features=n, features_per_class=k, threshold=self.threshold, rho=self.rho
        )
        self.assigned_ = solve(self.problem_, search)
        if self.assigned_.pairs < self.problem_.pairs:
            warnings.warn(
                f"rho: {self.problem_.pairs} pairs of classes were to share all features but one, "
                f"{self.assigned_.pairs} do",
                stacklevel=2,
            )
        self.selection_ = varying[self.assigned_.selection].numpy()
        self.assignment_ = self.assigned_.assignment.numpy()
        chosen = features[:, self.selection_]
        self._mean = chosen.mean(dim=0).numpy()
        std = chosen.std(dim=0, unbiased=False).numpy()
        self._std = np.where(std > 0, std, 1.0)
        self.coef_ = np.zeros((len(self.classes_), features.shape[1]))
        self.coef_[:, self.selection_] = self.assignment_ / self._std
        self.intercept_ = -(self.assignment_ / self._std) @ self._mean
        return self

    def _sizes(self, available: int) -> tuple[int, int]:
        """N and k as they can be with so many features that vary."""
        for name in ("n_features", "features_per_class"):
            check_whole(name, getattr(self, name), 1)
        classes = len(self.classes_)
        if available < 2:
            raise UserError(f"X has {available} feature(s) that vary; at least 2 are needed to tell classes apart")
        k = min(self.features_per_class, self.n_features, available)
        n = min(self.n_features, available, classes * k)
        while k > 1 and comb(n, k) < classes:
            k -= 1
            n = min(n, classes * k)
        for name, taken in (("n_features", n), ("features_per_class", k)):
            if taken < getattr(self, name):
                warnings.warn(
                    f"{name}: {taken} instead of {getattr(self, name)}, for {available} features that vary and "
                    f"{classes} classes",
                    stacklevel=3,
                )
        return n, k

    def _logits(self, X: ArrayLike) -> NDArray[Any]:
        if not self.relu:
            return super()._logits(X)
        self._check_fitted()
        features = self._validated(X).astype(np.float64)[:, self.selection_]
        present = np.maximum((features - self._mean) / self._std, 0)
        scores: NDArray[Any] = present @ self.assignment_.T.astype(np.float64)
        return scores
