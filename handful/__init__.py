"""Handful: image classifiers that decide with a handful of features, and show why they decide as they do.

    import handful

    model = handful.load("runs/birds")            # a run, a phase's folder or a checkpoint
    prediction = model.predict(["robin.jpg"])     # classes, probabilities
    why = handful.explain(model, "robin.jpg")     # the features that decided, and where they looked

Names are imported when they are first used, so that `import handful` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from handful.version import __version__

if TYPE_CHECKING:
    from handful.attribution import Attribution, Contributions, attribute, contributions
    from handful.errors import UserError
    from handful.explain import Explanation, explain
    from handful.images import Inputs
    from handful.loading import load, save
    from handful.networks import (
        Classifier,
        DecomposedHead,
        DenseHead,
        Head,
        NetworkConfig,
        SparseHead,
        build_classifier,
        register_backbone,
        register_head,
        register_layout,
    )
    from handful.prediction import Prediction
    from handful.sparse import ElasticNetClassifier, SparseRecord, fit_sparse_layer

#: Where each public name lives.
_HOMES = {
    "Attribution": "handful.attribution",
    "Classifier": "handful.networks",
    "Contributions": "handful.attribution",
    "DecomposedHead": "handful.networks",
    "DenseHead": "handful.networks",
    "ElasticNetClassifier": "handful.sparse",
    "Explanation": "handful.explain",
    "Head": "handful.networks",
    "Inputs": "handful.images",
    "NetworkConfig": "handful.networks",
    "Prediction": "handful.prediction",
    "SparseHead": "handful.networks",
    "SparseRecord": "handful.sparse",
    "UserError": "handful.errors",
    "attribute": "handful.attribution",
    "build_classifier": "handful.networks",
    "contributions": "handful.attribution",
    "explain": "handful.explain",
    "fit_sparse_layer": "handful.sparse",
    "load": "handful.loading",
    "register_backbone": "handful.networks",
    "register_head": "handful.networks",
    "register_layout": "handful.networks",
    "save": "handful.loading",
}

__all__ = [
    "Attribution",
    "Classifier",
    "Contributions",
    "DecomposedHead",
    "DenseHead",
    "ElasticNetClassifier",
    "Explanation",
    "Head",
    "Inputs",
    "NetworkConfig",
    "Prediction",
    "SparseHead",
    "SparseRecord",
    "UserError",
    "__version__",
    "attribute",
    "build_classifier",
    "contributions",
    "explain",
    "fit_sparse_layer",
    "load",
    "register_backbone",
    "register_head",
    "register_layout",
    "save",
]


def __getattr__(name: str) -> Any:
    """Import a public name where it lives."""
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'handful' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
