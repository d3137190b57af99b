"""The body with its head: the same for all classes, in a plumage colour that each scene draws for itself."""

from handful.birds.anatomy import Shape, Variant
from handful.birds.geometry import points, smooth

_OUTLINE = smooth(
    points(
        "0.50,-0.37 0.47,-0.47 0.37,-0.545 0.25,-0.51 0.16,-0.39 0.04,-0.26 -0.18,-0.13 -0.40,0.02 -0.53,0.10 "
        "-0.50,0.17 -0.36,0.23 -0.14,0.315 0.10,0.315 0.29,0.22 0.41,0.05 0.455,-0.13 0.47,-0.27"
    )
)
_BELLY = smooth(
    points("-0.50,0.15 -0.30,0.18 0.0,0.22 0.25,0.16 0.29,0.22 0.10,0.315 -0.14,0.315 -0.36,0.235"),
)
_CROWN = smooth(points("0.50,-0.41 0.47,-0.47 0.37,-0.545 0.25,-0.51 0.19,-0.43 0.33,-0.47"))

BODY = Variant("body", (Shape(_OUTLINE, None), Shape(_BELLY, None, 1.16), Shape(_CROWN, None, 0.84)))
