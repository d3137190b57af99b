"""The feet: two legs below the belly, all as long, so that a bird stands on its perch whatever feet it has."""

import numpy as np

from handful.birds.anatomy import INK, Colour, Part, variant
from handful.birds.geometry import Points, ellipse, points, smooth, stroke

_HIPS = (-0.07, 0.10)
_GROUND = 0.575

# Outlines of one foot, around the place where its leg meets the ground.
_TOES = [stroke(points(f"0.0,-0.02 {tip}"), 0.034) for tip in ("0.12,-0.015", "0.10,0.045", "-0.08,0.015")]
_WEB = smooth(points("-0.03,-0.04 0.15,-0.01 0.13,0.055 -0.02,0.045"), 3)
_CLAWS = [stroke(points(f"0.0,-0.06 {tip},0.03"), 0.04) for tip in ("0.10", "0.03", "-0.05")]
_PAD = ellipse(0.02, 0.01, 0.075, 0.03, corners=12)
# around the hip
_THIGH = smooth(points("-0.07,0.25 0.07,0.25 0.075,0.40 0.02,0.51 -0.045,0.42"), 4)

_ORANGE, _BLUE, _WHITE, _PINK = (240, 134, 40), (46, 150, 214), (250, 246, 234), (236, 84, 132)


def _leg(hip: float, width: float, top: float = 0.27, bottom: float = _GROUND) -> Points:
    """Return the piece of a leg between two heights; legs slant slightly forward."""
    slant = 0.02 / (_GROUND - 0.27)
    return stroke(points(f"{hip + slant * (top - 0.27)},{top} {hip + slant * (bottom - 0.27)},{bottom}"), width)


def _perching(hip: float) -> list[tuple[Points, Colour]]:
    return [(_leg(hip, 0.034), _ORANGE), *((toe + _foot(hip), _ORANGE) for toe in _TOES)]


def _webbed(hip: float) -> list[tuple[Points, Colour]]:
    return [(_leg(hip, 0.055), _BLUE), (_WEB + _foot(hip), _BLUE)]


def _booted(hip: float) -> list[tuple[Points, Colour]]:
    return [*((claw + _foot(hip), INK) for claw in _CLAWS), (_THIGH + np.array([hip, 0.0]), _WHITE)]


def _banded(hip: float) -> list[tuple[Points, Colour]]:
    rings: list[tuple[Points, Colour]] = [(_leg(hip, 0.056, top, top + 0.04), INK) for top in (0.35, 0.45)]
    return [(_leg(hip, 0.052), _PINK), *rings, (_PAD + _foot(hip), _PINK)]


def _foot(hip: float) -> Points:
    return np.array([hip + 0.02, _GROUND])


FEET = Part(
    "feet",
    (0.03, 0.48),
    tuple(
        variant(name, *(shape for hip in _HIPS for shape in one_leg(hip)))
        for name, one_leg in (
            ("perching", _perching),
            ("webbed", _webbed),
            ("booted", _booted),
            ("banded", _banded),
        )
    ),
)
