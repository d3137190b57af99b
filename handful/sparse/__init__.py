"""The sparse layer: multinomial regression with elastic net, feature selection, and what is made of them.

`fit_sparse_layer` does all of it on an array of features; `select_features`, `elastic_net_path` and
`ElasticNetClassifier` are its parts, usable alone. Objective throughout:

    (1/N) Σ_i CE(W z_i + b, y_i) + λ (α R(W) + (1 − α)/2 ‖W‖²),  z the standardised features, b free.
"""

from typing import TYPE_CHECKING, Any

from handful.sparse.features import select_features
from handful.sparse.fit_path import elastic_net_path
from handful.sparse.layer import SparseRecord, fit_sparse_layer
from handful.sparse.path import PathPoint, RegularisationPath
from handful.sparse.selection import Selection
from handful.sparse.standardise import ColumnStatistics, column_statistics

if TYPE_CHECKING:
    from handful.sparse.estimator import ElasticNetClassifier

__all__ = [
    "ColumnStatistics",
    "ElasticNetClassifier",
    "PathPoint",
    "RegularisationPath",
    "Selection",
    "SparseRecord",
    "column_statistics",
    "elastic_net_path",
    "fit_sparse_layer",
    "select_features",
]


def __getattr__(name: str) -> Any:
    """Import the estimator where it is used: scikit-learn takes a second to import."""
    if name == "ElasticNetClassifier":
        from handful.sparse.estimator import ElasticNetClassifier

        return ElasticNetClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
