"""What surrounds the bird: leaves, branches, clouds, berries …, as shapes about one unit large."""

from handful.birds.geometry import Points, ellipse, points, smooth, stroke

_PETALS = [(0.0, -0.55), (0.52, -0.17), (0.32, 0.45), (-0.32, 0.45), (-0.52, -0.17)]

# kind -> its shapes, drawn in this order, each with what the thing's colour is multiplied by
THINGS: dict[str, tuple[tuple[Points, float], ...]] = {
    "leaf": (
        (smooth(points("-0.9,0.0 -0.3,-0.36 0.3,-0.30 0.95,0.0 0.3,0.30 -0.3,0.36"), 4), 1.0),
        (points("-0.95,-0.03 0.8,0.0 -0.95,0.05"), 0.72),
    ),
    "branch": (
        (stroke(points("-1.0,0.03 -0.5,-0.01 0.0,0.02 0.5,0.0 1.0,0.04"), 0.045), 1.0),
        (stroke(points("-1.0,0.045 -0.5,0.005 0.0,0.035 0.5,0.015 1.0,0.055"), 0.014), 0.72),
    ),
    "cloud": (
        (ellipse(0.0, 0.0, 1.0, 0.26), 1.0),
        (ellipse(-0.25, -0.18, 0.42, 0.30), 1.02),
        (ellipse(0.3, -0.12, 0.46, 0.26), 1.02),
    ),
    "hill": ((ellipse(0.0, 0.3, 1.0, 0.5), 1.0),),
    "grass": ((points("-0.07,0.5 -0.02,-0.2 0.06,-0.8 0.05,-0.1 0.08,0.5"), 1.0),),
    "berry": ((ellipse(0, 0, 1, 1), 1.0), (ellipse(-0.3, -0.3, 0.3, 0.3, corners=10), 1.35)),
    "flower": (
        *((ellipse(x, y, 0.42, 0.42, corners=10), 1.0) for x, y in _PETALS),
        (ellipse(0, 0, 0.34, 0.34, corners=10), 0.55),
    ),
    "butterfly": (
        (smooth(points("0.0,0.0 0.35,-0.75 1.0,-0.8 0.8,0.0 0.55,0.6"), 3), 1.0),
        (smooth(points("0.0,0.0 -0.35,-0.75 -1.0,-0.8 -0.8,0.0 -0.55,0.6"), 3), 1.0),
        (ellipse(0, 0, 0.1, 0.6, corners=10), 0.3),
    ),
    "pebble": ((smooth(points("-1.0,0.1 -0.4,-0.6 0.6,-0.5 1.0,0.2 0.2,0.6"), 3), 0.85),),
}
