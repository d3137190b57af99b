"""Attribution: what a model looks at.

`attribute(model, images, "pred", method="gradcam")` runs a method; `names()` lists the methods and `register` adds one.
`contributions` takes a logit apart into features; `units` sums maps over patches, superpixels and instances.
"""

from handful.attribution import methods
from handful.attribution.compute import Attribution, attribute
from handful.attribution.context import AttributionContext, gradients
from handful.attribution.contributions import Contributions, contributions
from handful.attribution.display import normalise
from handful.attribution.registry import Method, get, names, register, unregister
from handful.attribution.state import undisturbed, unwrap

__all__ = [
    "Attribution",
    "AttributionContext",
    "Contributions",
    "Method",
    "attribute",
    "contributions",
    "get",
    "gradients",
    "methods",
    "names",
    "normalise",
    "register",
    "undisturbed",
    "unregister",
    "unwrap",
]
