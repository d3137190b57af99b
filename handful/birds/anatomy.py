"""What the parts of a toy bird are made of.

Bird coordinates: the origin lies in the middle of the body, x points to where the beak is, y points down, and the
body is about one unit long.
"""

from dataclasses import dataclass

from handful.birds.geometry import Points

Colour = tuple[int, int, int]

INK: Colour = (26, 24, 30)


@dataclass(frozen=True)
class Shape:
    """A polygon of one colour; `colour` None stands for the scene's plumage, times `shade`."""

    outline: Points
    colour: Colour | None
    shade: float = 1.0


@dataclass(frozen=True)
class Variant:
    """One way a part can look: its name and its shapes, drawn in this order.

    Example:
        >>> import numpy as np
        >>> variant("spot", (np.zeros((3, 2)), INK)).name
        'spot'
    """

    name: str
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Part:
    """A part of the bird: its name, the point (x, y) in bird coordinates it sits at, and its variants.

    Variants of one part differ in shape and in colour or pattern.

    Example:
        >>> Part("beak", (0.4, -0.2), ()).anchor
        (0.4, -0.2)
    """

    name: str
    anchor: tuple[float, float]
    variants: tuple[Variant, ...]


def variant(name: str, *shapes: tuple[Points, Colour]) -> Variant:
    """Return the variant made of the (outline, colour) pairs."""
    return Variant(name, tuple(Shape(outline, colour) for outline, colour in shapes))
