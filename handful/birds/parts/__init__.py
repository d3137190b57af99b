"""The parts of a toy bird, one file each, and the order in which they are drawn."""

from handful.birds.anatomy import Part
from handful.birds.parts.beak import BEAK
from handful.birds.parts.body import BODY
from handful.birds.parts.breast import BREAST
from handful.birds.parts.eye import EYE
from handful.birds.parts.feet import FEET
from handful.birds.parts.tail import TAIL
from handful.birds.parts.wing import WING

PARTS: tuple[Part, ...] = (BEAK, WING, TAIL, BREAST, EYE, FEET)
PART_NAMES: tuple[str, ...] = tuple(part.name for part in PARTS)

# What is drawn before the body, and after it: nearer parts hide farther ones.
BEHIND_BODY: tuple[str, ...] = ("tail", "feet")
BEFORE_BODY: tuple[str, ...] = ("breast", "beak", "eye", "wing")

__all__ = ["BEFORE_BODY", "BEHIND_BODY", "BODY", "PARTS", "PART_NAMES"]
