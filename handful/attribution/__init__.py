"""Attribution: what a model looks at.

`attribute(model, images, "pred", method="gradcam")` is the one door; `names()` lists the methods and `register` adds
one. `contributions` tells which features decided; `units` sums maps over patches, superpixels and instances.
"""

from handful.attribution import methods
from handful.attribution.compute import Attribution, attribute
from handful.attribution.context import AttributionContext
from handful.attribution.contributions import Contributions, contributions
from handful.attribution.display import normalise
from handful.attribution.registry import Method, get, names, register
from handful.attribution.state import undisturbed, unwrap

__all__ = [
    "Attribution",
    "AttributionContext",
    "Contributions",
    "Method",
    "attribute",
    "contributions",
    "get",
    "methods",
    "names",
    "normalise",
    "register",
    "undisturbed",
    "unwrap",
]
