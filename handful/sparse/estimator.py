"""A scikit-learn style estimator over the regularisation path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from handful.errors import UserError
from handful.sparse.fit_path import elastic_net_path
from handful.sparse.path import PathPoint, RegularisationPath


class ElasticNetClassifier:
    """Multinomial logistic regression with elastic net, the whole path fitted at once.

    Follows scikit-learn's conventions (parameters in `__init__`, learned values with a trailing underscore,
    `get_params`, `set_params`) without needing scikit-learn. Features are standardised inside.

    Args:
        features_per_class: the point that predicts is the densest with at most so many non-zero weights a class;
            None takes the weakest penalty.
        solver: "exact", "saga" or "glm_saga".
        alpha: elastic-net mixing in [0, 1].
        n_lambdas: length of the grid.
        epsilon: smallest λ as a share of the largest.
        tolerance: KKT residual to reach relative to λ α; "exact" only.
        warm_start: whether `fit` starts every λ from what the last `fit` found there.
        seed: of the stochastic solvers.
        progress: whether to show a progress bar.

    Attributes:
        classes_: (C,) the labels.
        coef_path_: (K, C, F) weights on the raw features along the path.
        intercept_path_: (K, C).
        lambdas_: (K,).
        coef_, intercept_: those of the point that predicts.
        path_: the `RegularisationPath` itself, on standardised features.
        n_features_in_: F.
    """

    path_: RegularisationPath

    def __init__(
        self,
        *,
        features_per_class: float | None = None,
        solver: str = "exact",
        alpha: float = 0.99,
        n_lambdas: int = 100,
        epsilon: float = 1e-3,
        tolerance: float = 1e-2,
        warm_start: bool = False,
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        self.features_per_class = features_per_class
        self.solver = solver
        self.alpha = alpha
        self.n_lambdas = n_lambdas
        self.epsilon = epsilon
        self.tolerance = tolerance
        self.warm_start = warm_start
        self.seed = seed
        self.progress = progress

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of `__init__`."""
        return {
            name: getattr(self, name)
            for name in (
                "features_per_class", "solver", "alpha", "n_lambdas", "epsilon", "tolerance", "warm_start", "seed",
                "progress",
            )
        }  # fmt: skip

    def set_params(self, **params: Any) -> ElasticNetClassifier:
        """Changes parameters.

        Raises:
            UserError: for one that does not exist.
        """
        for name, value in params.items():
            if name not in self.get_params():
                raise UserError(f"{name}: no parameter of ElasticNetClassifier")
            setattr(self, name, value)
        return self

    def fit(self, X: ArrayLike, y: ArrayLike) -> ElasticNetClassifier:
        """Fits the path to features (N, F) and labels (N,) of any kind.

        Raises:
            UserError: for bad input, see `elastic_net_path`.
        """
        features = _matrix(X)
        self.classes_, numbers = np.unique(np.asarray(y), return_inverse=True)
        again = self.warm_start and hasattr(self, "path_")
        shape = (len(self.classes_), features.shape[1])
        start = self.path_.points if again and self.path_[0].weight.shape == shape else []
        self.path_ = elastic_net_path(
            features,
            torch.from_numpy(numbers.reshape(-1).astype(np.int64)),
            solver=self.solver,
            alpha=self.alpha,
            n_lambdas=self.n_lambdas,
            epsilon=self.epsilon,
            tolerance=self.tolerance,
            stop_density=self.features_per_class,
            warm_start=start,
            seed=self.seed,
            progress=self.progress,
        )
        return self._take_in()

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels (N,) of features (N, F)."""
        best = self.decision_function(X).argmax(1)
        return self.classes_[best]

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Probabilities (N, C)."""
        logits = torch.from_numpy(self.decision_function(X))
        return torch.softmax(logits, 1).numpy()

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Logits (N, C) in float64."""
        if not hasattr(self, "path_"):
            raise UserError("ElasticNetClassifier: fit it first")
        features = _matrix(X).double().numpy()
        if features.shape[1] != self.n_features_in_:
            raise UserError(f"X: {features.shape[1]} features, fitted with {self.n_features_in_}")
        return features @ self.coef_.T + self.intercept_

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Share of right predictions."""
        return float((self.predict(X) == np.asarray(y)).mean())

    def save(self, path: str | Path) -> None:
        """Writes path, classes and parameters; arrays and plain values only.

        Raises:
            UserError: for classes that are neither numbers nor strings.
        """
        if self.classes_.dtype.kind not in "biufU":
            raise UserError("classes: only numbers and strings can be saved")
        with Path(path).open("wb") as file:
            np.savez(
                file,
                weights=torch.stack([p.weight for p in self.path_]).cpu().numpy(),
                biases=torch.stack([p.bias for p in self.path_]).cpu().numpy(),
                records=_json(self.path_.records()),
                mean=self.path_.mean.cpu().numpy(),
                std=self.path_.std.cpu().numpy(),
                scalars=_json([self.path_.alpha, self.path_.lambda_max, self.path_.solver]),
                params=_json(self.get_params()),
                classes=self.classes_,
            )

    @classmethod
    def load(cls, path: str | Path) -> ElasticNetClassifier:
        """Reads what `save` wrote.

        Raises:
            UserError: where the file is missing or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as held:
                model = cls(**json.loads(str(held["params"])))
                records = json.loads(str(held["records"]))
                weights, biases = torch.from_numpy(held["weights"]), torch.from_numpy(held["biases"])
                points = [
                    PathPoint(weight=w, bias=b, **row) for w, b, row in zip(weights, biases, records, strict=True)
                ]
                mean, std = torch.from_numpy(held["mean"]), torch.from_numpy(held["std"])
                alpha, largest, solver = json.loads(str(held["scalars"]))
                model.path_ = RegularisationPath(points, alpha, largest, solver, mean, std)
                model.classes_ = held["classes"]
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise UserError(f"{path}: not a saved ElasticNetClassifier ({error})") from error
        return model._take_in()

    def _take_in(self) -> ElasticNetClassifier:
        std, mean = self.path_.std, self.path_.mean
        weights = torch.stack([p.weight for p in self.path_]) / std
        biases = torch.stack([p.bias for p in self.path_]) - weights @ mean
        self.coef_path_ = weights.cpu().numpy()
        self.intercept_path_ = biases.cpu().numpy()
        self.lambdas_ = np.array([p.lam for p in self.path_])
        self.n_features_in_ = len(mean)
        limit = float("inf") if self.features_per_class is None else self.features_per_class
        fitting = [place for place, point in enumerate(self.path_) if point.density <= limit]
        place = fitting[-1]
        self.coef_, self.intercept_ = self.coef_path_[place], self.intercept_path_[place]
        return self


def _matrix(X: ArrayLike) -> torch.Tensor:
    array = X.numpy(force=True) if isinstance(X, torch.Tensor) else np.asarray(X)
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    return torch.from_numpy(np.ascontiguousarray(array))


def _json(value: Any) -> NDArray[Any]:
    return np.array(json.dumps(value))
