"""The eye with what surrounds it."""

from handful.birds.anatomy import INK, Part, variant
from handful.birds.geometry import Points, ellipse, points, smooth

_X, _Y = 0.355, -0.40


def _disc(radius: float) -> Points:
    return ellipse(_X, _Y, radius, radius)


_BROW = smooth(points("0.49,-0.475 0.38,-0.53 0.24,-0.50 0.15,-0.40 0.27,-0.455 0.39,-0.475"), 4)
_MASK = smooth(points("0.49,-0.41 0.38,-0.475 0.24,-0.455 0.10,-0.33 0.26,-0.335 0.40,-0.325 0.485,-0.34"), 4)
_TEARDROP = smooth(points("0.455,-0.405 0.39,-0.485 0.28,-0.465 0.245,-0.38 0.27,-0.27 0.33,-0.20 0.38,-0.315"), 4)
_GLEAM = ellipse(_X + 0.02, _Y - 0.02, 0.018, 0.018, corners=8)

EYE = Part(
    "eye",
    (_X, _Y),
    (
        variant("ring", (_disc(0.105), (250, 250, 246)), (_disc(0.062), INK)),
        variant("brow", (_BROW, (255, 248, 214)), (_disc(0.068), (252, 206, 32)), (_disc(0.034), INK)),
        variant("mask", (_MASK, (20, 18, 24)), (_disc(0.055), (232, 36, 30)), (_disc(0.024), INK)),
        variant("teardrop", (_TEARDROP, (72, 178, 232)), (_disc(0.056), INK), (_GLEAM, (255, 255, 255))),
    ),
)
