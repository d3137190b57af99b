"""What our scikit-learn classifiers have in common: validation, and predictions of a linear model."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from handful.conversions import as_numpy
from handful.errors import UserError

_Estimator = TypeVar("_Estimator")


def all_or_nothing(
    fit: Callable[[_Estimator, ArrayLike, ArrayLike], _Estimator],
) -> Callable[[_Estimator, ArrayLike, ArrayLike], _Estimator]:
    """Let an estimator whose `fit` fails stay what it was before."""

    @wraps(fit)
    def fitted(self: _Estimator, X: ArrayLike, y: ArrayLike) -> _Estimator:
        before = dict(vars(self))
        try:
            return fit(self, X, y)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return fitted


class NotFitted(UserError, NotFittedError):
    """The estimator predicts before it has been fitted."""


class WrongType(UserError, TypeError):
    """Input of a type that scikit-learn refuses with a TypeError: sparse matrices, bytes, objects."""


class LinearClassifier(ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier that is linear in features: `logits = scores(X) @ coef_.T + intercept_`.

    Attributes:
        classes_: (C,) the labels.
        coef_, intercept_: (C, F) and (C,) on the raw features.
    """

    classes_: NDArray[Any]
    coef_: NDArray[Any]
    intercept_: NDArray[Any]

    def set_params(self, **params: Any) -> Self:
        """Changes parameters.

        Raises:
            UserError: for one that does not exist.
        """
        try:
            super().set_params(**params)
        except ValueError as error:
            raise UserError(str(error)) from error
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels (N,) of features (N, F)."""
        best = self._logits(X).argmax(1)
        return self.classes_[best]

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Probabilities (N, C)."""
        return torch.softmax(torch.from_numpy(self._logits(X)), 1).numpy()

    def predict_log_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Logarithms of the probabilities (N, C)."""
        return torch.log_softmax(torch.from_numpy(self._logits(X)), 1).numpy()

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Logits (N, C) in float64; for two classes, as scikit-learn has it, the log-odds (N,) of the second."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def _logits(self, X: ArrayLike) -> NDArray[Any]:
        self._check_fitted()
        features: NDArray[Any] = self._validated(X).astype(np.float64)
        return features @ self.coef_.T + self.intercept_

    def _check_fitted(self) -> None:
        if not hasattr(self, "coef_"):
            raise NotFitted(f"this {type(self).__name__} is not fitted yet; call fit first")

    def _labelled(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """X, and y as numbers of `classes_`, which are set.

        Raises:
            UserError: for input that scikit-learn refuses; for a single class.
        """
        features, labels = self._validated(X, y)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise UserError(f"y: at least two classes are needed, got only one class, {self.classes_[0]}")
        return features, numbers.reshape(-1).astype(np.int64)

    def _validated(self, X: ArrayLike, *y: ArrayLike) -> Any:
        """X, and y where it is given, as arrays; what scikit-learn refuses is refused with our error."""
        fitting = bool(y)
        arguments = [as_numpy(part) if isinstance(part, torch.Tensor) else part for part in (X, *y)]
        try:
            found = validate_data(self, *arguments, reset=fitting, dtype=(np.float64, np.float32))
            if fitting:
                check_classification_targets(found[1])
            return found
        except TypeError as error:
            raise WrongType(str(error)) from error
        except ValueError as error:
            raise UserError(str(error)) from error
