"""What decides: contributions that add up, features, the runner-up, maps, and the trade-off of size and accuracy.

The package can be called like its function: `handful.explain(model, image)`.
"""

import sys
from types import ModuleType
from typing import Any

from handful.explain.comparison import Change, FeatureLead, RunnerUp
from handful.explain.deciding import DecidingFeatures
from handful.explain.explainer import Explainer, explain
from handful.explain.explanation import Explanation, MethodMap
from handful.explain.scores import ClassScore, Contribution
from handful.explain.trade_off import Size, trade_off

__all__ = [
    "Change",
    "ClassScore",
    "Contribution",
    "DecidingFeatures",
    "Explainer",
    "Explanation",
    "FeatureLead",
    "MethodMap",
    "RunnerUp",
    "Size",
    "explain",
    "trade_off",
]


class _CallablePackage(ModuleType):
    """The package and the function of one name are one thing, whichever was imported first."""

    def __call__(self, *args: Any, **options: Any) -> Explanation:
        return explain(*args, **options)


sys.modules[__name__].__class__ = _CallablePackage
