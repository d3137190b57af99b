"""The beak, at the front of the head, pointing forward."""

from handful.birds.anatomy import INK, Part, variant
from handful.birds.geometry import points, smooth, stroke

_CONE = points("0.455,-0.475 0.56,-0.435 0.685,-0.335 0.56,-0.275 0.455,-0.255")
_CONE_GAPE = stroke(points("0.46,-0.345 0.68,-0.335"), 0.022)

_HOOK = smooth(
    points("0.45,-0.45 0.57,-0.455 0.68,-0.38 0.695,-0.25 0.66,-0.20 0.625,-0.295 0.55,-0.30 0.45,-0.285"), 4
)
_HOOK_TIP = smooth(points("0.655,-0.40 0.695,-0.34 0.70,-0.25 0.66,-0.195 0.62,-0.30"), 4)

_DAGGER = points("0.45,-0.425 0.60,-0.40 0.93,-0.335 0.60,-0.315 0.45,-0.30")
_DAGGER_GAPE = stroke(points("0.47,-0.362 0.90,-0.335"), 0.018)

_SICKLE = smooth(
    points(
        "0.45,-0.425 0.60,-0.42 0.75,-0.34 0.84,-0.20 0.875,-0.05 0.80,-0.17 0.70,-0.285 0.58,-0.335 0.45,-0.31",
    ),
    4,
)

_SPATULA = smooth(
    points(
        "0.45,-0.42 0.58,-0.39 0.68,-0.41 0.79,-0.435 0.87,-0.39 0.88,-0.29 0.80,-0.245 0.68,-0.275 0.58,-0.315 "
        "0.45,-0.30"
    ),
    4,
)
_SPATULA_TIP = smooth(points("0.79,-0.435 0.87,-0.39 0.88,-0.29 0.80,-0.245 0.815,-0.34"), 4)

BEAK = Part(
    "beak",
    (0.56, -0.355),
    (
        variant("cone", (_CONE, (244, 146, 30)), (_CONE_GAPE, (150, 74, 8))),
        variant("hook", (_HOOK, (250, 216, 52)), (_HOOK_TIP, INK)),
        variant("dagger", (_DAGGER, (40, 40, 50)), (_DAGGER_GAPE, (132, 132, 146))),
        variant("sickle", (_SICKLE, (214, 40, 52))),
        variant("spatula", (_SPATULA, (112, 170, 214)), (_SPATULA_TIP, (48, 82, 138))),
    ),
)
