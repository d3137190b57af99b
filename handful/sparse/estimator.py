"""A scikit-learn style estimator over the regularisation path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from handful.atomic import atomic
from handful.conversions import as_float, check_real
from handful.errors import UserError
from handful.scikit import LinearClassifier, all_or_nothing
from handful.sparse.cut import densest_within
from handful.sparse.fit_path import elastic_net_path
from handful.sparse.path import PathPoint, RegularisationPath


class ElasticNetClassifier(LinearClassifier):
    """Multinomial logistic regression with elastic net, the whole path fitted at once.

    A scikit-learn estimator: it works in pipelines, searches, cross-validation and calibration. Features are
    standardised inside.

    Args:
        features_per_class: the point that predicts is the densest with at most so many non-zero weights per class;
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
        feature_names_in_: (F,) where X had named columns.

    Example:
        >>> X, y = [[0.0, 1.0], [0.1, 0.3], [1.0, 0.8], [0.9, 0.1]], ["jay", "jay", "wren", "wren"]
        >>> ElasticNetClassifier(n_lambdas=20).fit(X, y).predict([[0.95, 0.5]])
        array(['wren'], dtype='<U4')
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

    @all_or_nothing
    def fit(self, X: ArrayLike, y: ArrayLike) -> ElasticNetClassifier:
        """Fits the path to features (N, F) and labels (N,) of any kind.

        Raises:
            UserError: for bad input, see `elastic_net_path`; a single class, no point with at most
                `features_per_class` weights per class.
        """
        for name in ("warm_start", "progress"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise UserError(f"{name}: expected true or false, got {getattr(self, name)!r}")
        features, numbers = self._labelled(X, y)
        if self.features_per_class is not None:
            check_real("features_per_class", self.features_per_class, 1.0, features.shape[1])
        again = self.warm_start and hasattr(self, "path_")
        shape = (len(self.classes_), features.shape[1])
        start = self.path_.points if again and self.path_[0].weight.shape == shape else []
        self.path_ = elastic_net_path(
            as_float(features, features.shape, "X"),
            torch.from_numpy(numbers),
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

    def save(self, path: str | Path) -> None:
        """Writes path, classes and parameters; arrays and plain values only.

        Raises:
            UserError: for classes that are neither numbers nor strings; before it is fitted.
            OSError: where the file cannot be written; what was there stays.
        """
        self._check_fitted()
        if self.classes_.dtype.kind not in "biufU":
            raise UserError("classes: only numbers and strings can be saved")
        with atomic(path) as file:
            names = getattr(self, "feature_names_in_", None)
            np.savez(
                file,
                **({} if names is None else {"feature_names": names.astype(str)}),
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
                model.n_features_in_ = len(mean)
                if "feature_names" in held:
                    model.feature_names_in_ = held["feature_names"].astype(object)
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
        limit = float("inf") if self.features_per_class is None else self.features_per_class
        best = densest_within(self.path_.points, limit)
        if best.density > limit:
            raise UserError(
                f"features_per_class: no point of the path has between 1 and {limit:g} weights per class; give more "
                "n_lambdas or a larger features_per_class"
            )
        place = self.path_.points.index(best)
        self.coef_, self.intercept_ = self.coef_path_[place], self.intercept_path_[place]
        return self


def _json(value: Any) -> NDArray[Any]:
    # parameters may be numbers of numpy, as a search over them gives
    return np.array(json.dumps(value, default=lambda number: number.item()))
