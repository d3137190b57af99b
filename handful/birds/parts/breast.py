"""The breast: a strip along the front of the body.

Places on it are given by (u, v): u runs from the throat (0) to the belly (1), v from inside (0) to the outline (1).
"""

import numpy as np

from handful.birds.anatomy import INK, Colour, Part, variant
from handful.birds.geometry import Points, ellipse, points

_OUTSIDE = points("0.47,-0.27 0.455,-0.13 0.41,0.05 0.29,0.22 0.10,0.315 -0.14,0.315")
_INSIDE = points("0.30,-0.285 0.235,-0.15 0.15,-0.02 0.05,0.08 -0.06,0.15 -0.18,0.21")


def _at(u: Points, v: float | Points) -> Points:
    knots = np.linspace(0, 1, len(_OUTSIDE))
    inside, outside = (
        np.stack([np.interp(u, knots, curve[:, 0]), np.interp(u, knots, curve[:, 1])], axis=1)
        for curve in (_INSIDE, _OUTSIDE)
    )
    return inside + (outside - inside) * np.broadcast_to(v, u.shape)[:, None]


def _band(start: float, stop: float, inside: float = 0.0, outside: float = 1.0) -> Points:
    """Return the piece of the strip with u from `start` to `stop` and v from `inside` to `outside`."""
    u = np.linspace(start, stop, 12)
    return np.concatenate([_at(u, outside), _at(u[::-1], inside)])


def _bib() -> Points:
    """Return the upper piece of the strip, coming to a point at the outline."""
    u = np.linspace(0, 0.68, 12)
    return np.concatenate([_at(u, 1.0), _at(u[::-1], u[::-1] ** 2 / u[-1] ** 2)])


def _spot(u: float, v: float) -> tuple[Points, Colour]:
    x, y = _at(np.array([u]), v)[0]
    return ellipse(x, y, 0.032, 0.032, corners=10), (70, 44, 26)


_SPOTS = [
    _spot(u, v)
    for u, row in (
        (0.10, (0.3, 0.75)),
        (0.26, (0.15, 0.5, 0.85)),
        (0.42, (0.3, 0.7)),
        (0.56, (0.15, 0.5, 0.85)),
        (0.70, (0.3, 0.75)),
        (0.85, (0.5,)),
    )
    for v in row
]
_BARS: list[tuple[Points, Colour]] = [(_band(u, u + 0.075), (74, 78, 92)) for u in (0.03, 0.19, 0.35, 0.51, 0.67, 0.83)]

BREAST = Part(
    "breast",
    (0.33, 0.0),
    (
        variant("bib", (_bib(), (220, 52, 32))),
        variant("spotted", (_band(0, 0.97), (252, 238, 204)), *_SPOTS),
        variant("barred", (_band(0.16, 1.0, -0.15), (240, 240, 244)), *_BARS),
        variant("belted", (_band(0.40, 1.0), (250, 214, 40)), (_band(0.26, 0.46), INK)),
        variant("striped", (_band(0, 0.97, 0.25), (62, 186, 168)), (_band(0, 0.9, 0.5, 0.76), (14, 52, 72))),
    ),
)
