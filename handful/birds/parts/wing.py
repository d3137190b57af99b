"""The wing, folded along the side or raised."""

from handful.birds.anatomy import INK, Colour, Part, variant
from handful.birds.geometry import Points, ellipse, points, smooth, stroke

_SHIELD = smooth(
    points("0.19,-0.16 0.05,-0.22 -0.16,-0.11 -0.35,0.04 -0.42,0.15 -0.28,0.20 -0.06,0.17 0.11,0.07 0.20,-0.05")
)
# the edge of a feather
_SCALE = stroke(smooth(points("-0.06,-0.05 -0.075,0.02 0.0,0.055 0.055,0.02"), 3)[:10], 0.028)
_SCALES: list[tuple[Points, Colour]] = [
    (_SCALE + place, (226, 184, 128)) for place in points("0.08,-0.08 -0.03,0.03 -0.13,-0.03 -0.16,0.10 -0.27,0.09")
]

_POINTED = smooth(
    points("0.20,-0.14 0.06,-0.22 -0.18,-0.12 -0.45,0.0 -0.74,0.09 -0.44,0.15 -0.14,0.15 0.10,0.07 0.20,-0.04")
)
_BARS: list[tuple[Points, Colour]] = [
    (points("0.0,0.0 -0.07,0.02 -0.15,0.22 -0.08,0.21") + place, (246, 248, 255))
    for place in points("0.07,-0.19 -0.10,-0.13")
]

_PADDLE = smooth(
    points("0.20,-0.12 0.10,-0.22 -0.08,-0.20 -0.27,-0.09 -0.37,0.08 -0.26,0.23 -0.06,0.245 0.12,0.14 0.21,0.0")
)
_DOTS: list[tuple[Points, Colour]] = [
    (ellipse(x, y, 0.034, 0.034, corners=10), (226, 246, 150))
    for x, y in points(
        "0.09,-0.10 -0.03,-0.11 0.07,0.03 -0.07,0.02 -0.19,-0.04 -0.01,0.14 -0.15,0.12 -0.27,0.07",
    )
]

_BLADE = smooth(
    points(
        "0.20,-0.15 0.02,-0.21 -0.22,-0.09 -0.52,0.05 -0.66,0.17 -0.40,0.16 -0.30,0.245 -0.18,0.17 -0.08,0.215 "
        "0.02,0.12 0.13,0.10 0.20,-0.03"
    )
)
_PATCH = smooth(points("0.15,-0.11 0.02,-0.15 -0.13,-0.07 -0.07,0.03 0.08,0.02"))

_RAISED = smooth(
    points(
        "0.17,-0.10 0.06,-0.36 -0.06,-0.56 -0.22,-0.70 -0.24,-0.56 -0.35,-0.57 -0.33,-0.43 -0.43,-0.41 -0.37,-0.27 "
        "-0.40,-0.19 -0.22,-0.03 0.0,0.04"
    ),
    4,
)
_COVERTS = smooth(points("0.14,-0.10 0.05,-0.32 -0.07,-0.40 -0.20,-0.27 -0.20,-0.10 0.0,-0.01"))

WING = Part(
    "wing",
    (-0.06, -0.04),
    (
        variant("scaled", (_SHIELD, (138, 84, 40)), *_SCALES),
        variant("barred", (_POINTED, (44, 88, 190)), *_BARS),
        variant("dotted", (_PADDLE, (44, 128, 60)), *_DOTS),
        variant("patched", (_BLADE, INK), (_PATCH, (252, 212, 30))),
        variant("raised", (_RAISED, (92, 26, 40)), (_COVERTS, (226, 74, 62))),
    ),
)
