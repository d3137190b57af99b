"""The tail, which leaves the body at its rump."""

import numpy as np

from handful.birds.anatomy import INK, Colour, Part, variant
from handful.birds.geometry import Points, ellipse, points, smooth

_RUMP = np.array([-0.43, 0.09])
_DROOP, _UP = 20.0, -52.0


def _behind(local: Points, angle: float = _DROOP) -> Points:
    """Turn points (along, across) of a tail into bird coordinates; `angle` in degrees below the horizontal."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    axes: Points = np.array([[-cosine, sine], [sine, cosine]])
    return _RUMP + local @ axes


def _band(start: float, stop: float, width: float) -> Points:
    """Return a rectangle across the tail, from `start` to `stop` along it."""
    half = width / 2
    return np.array([[start, -half], [stop, -half], [stop, half], [start, half]])


_FAN = smooth(points("0.0,-0.07 0.25,-0.16 0.44,-0.26 0.52,-0.15 0.55,0.0 0.52,0.15 0.44,0.26 0.25,0.16 0.0,0.07"), 4)
_FAN_EDGE = smooth(
    points("0.36,-0.215 0.44,-0.26 0.52,-0.15 0.55,0.0 0.52,0.15 0.44,0.26 0.36,0.215 0.43,0.11 0.455,0.0 0.43,-0.11"),
    4,
)
_FORK = points("0.0,-0.07 0.30,-0.10 0.66,-0.20 0.38,0.0 0.66,0.20 0.30,0.10 0.0,0.07")
_SHAFT = points("0.0,-0.065 0.20,-0.035 0.56,-0.016 0.56,0.016 0.20,0.035 0.0,0.065")
_RACKET = ellipse(0.60, 0.0, 0.11, 0.075)
_RACKET_SPOT = ellipse(0.61, 0.0, 0.05, 0.035)
_LADDER = points("0.0,-0.07 0.10,-0.085 0.46,-0.095 0.46,0.095 0.10,0.085 0.0,0.07")
_RUNGS: list[tuple[Points, Colour]] = [(_behind(_band(a, a + 0.075, 0.185)), INK) for a in (0.08, 0.235, 0.39)]
_COCKED = smooth(points("-0.02,-0.06 0.20,-0.085 0.42,-0.075 0.47,0.0 0.42,0.075 0.20,0.085 -0.02,0.08"), 4)

TAIL = Part(
    "tail",
    (-0.60, 0.13),
    (
        variant("fan", (_behind(_FAN), (196, 98, 38)), (_behind(_FAN_EDGE), (58, 30, 18))),
        variant("forked", (_behind(_FORK), (48, 62, 150))),
        variant(
            "racket",
            (_behind(_SHAFT), (20, 112, 84)),
            (_behind(_RACKET), (30, 196, 130)),
            (_behind(_RACKET_SPOT), (10, 66, 56)),
        ),
        variant("ladder", (_behind(_LADDER), (244, 244, 240)), *_RUNGS),
        variant(
            "cocked", (_behind(_COCKED, _UP), (146, 66, 158)), (_behind(_band(0.33, 0.41, 0.155), _UP), (250, 224, 240))
        ),
    ),
)
