"""A scene: every number that a picture of a toy bird is drawn from, chosen by (seed, index) alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from handful.birds.anatomy import Colour
from handful.birds.classes import BirdClass
from handful.birds.difficulty import Difficulty
from handful.birds.geometry import place, points
from handful.birds.parts import PARTS

_T = TypeVar("_T")

BACKDROPS: tuple[str, ...] = ("sky", "branches", "foliage", "meadow")


@dataclass(frozen=True)
class Pose:
    """Where the bird is: body centre (x, y) and body length as shares of the picture's side, lean in degrees."""

    x: float
    y: float
    scale: float
    angle: float
    facing_left: bool


@dataclass(frozen=True)
class Thing:
    """An ornament, distractor or occluder: one of the kinds in `things.py`, placed like the bird."""

    kind: str
    x: float
    y: float
    size: float
    angle: float
    colour: Colour


@dataclass(frozen=True)
class Backdrop:
    """What is behind the bird: a gradient with soft blots of light, and ornaments drawn on it."""

    kind: str
    top: Colour
    bottom: Colour
    mottle: float
    ornaments: tuple[Thing, ...]


@dataclass(frozen=True)
class Light:
    """Gain of the three colour channels and standard deviation of the pixel noise in steps of 1/255."""

    gain: tuple[float, float, float]
    grain: float


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn. `variants` gives the variant of every part, `noise` seeds the textures.

    Example:
        >>> from handful.birds import ToyBirdsDataset
        >>> ToyBirdsDataset(n_classes=4, images_per_class=1).scene(2).label
        2
    """

    label: int
    variants: dict[str, int]
    pose: Pose
    plumage: Colour
    backdrop: Backdrop
    distractors: tuple[Thing, ...]
    occluders: tuple[Thing, ...]
    light: Light
    noise: int


_PLUMAGES: tuple[Colour, ...] = ((152, 140, 126), (128, 132, 142), (170, 150, 116), (118, 116, 96), (176, 170, 164))
_GREENS: tuple[Colour, ...] = ((66, 110, 52), (92, 136, 62), (54, 92, 66), (118, 146, 72), (140, 152, 70))
_BARKS: tuple[Colour, ...] = ((98, 74, 56), (78, 64, 56), (122, 100, 80))
_GAY: tuple[Colour, ...] = (
    (220, 52, 32), (250, 214, 40), (44, 88, 190), (240, 134, 40), (236, 84, 132), (62, 186, 168), (244, 244, 240),
)  # fmt: skip
# The corners of the box that all birds stay in, whatever their variants (bird coordinates).
_EXTENT = points("-1.0,-0.62 0.9,-0.62 0.9,0.62 -1.0,0.62")
_PERCH = points("0.04,0.60")
_ANCHORS = np.array([part.anchor for part in PARTS])


class _Dice:
    """Random numbers of one scene; only uniform doubles are drawn, so the stream is the same on every platform."""

    def __init__(self, seed: int, index: int) -> None:
        self._rng = np.random.default_rng([seed, index])

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(self._rng.random())

    def integer(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + int(self._rng.random() * (high - low + 1))

    def choice(self, options: Sequence[_T]) -> _T:
        return options[self.integer(0, len(options) - 1)]

    def near(self, colour: Colour, spread: float) -> Colour:
        shared = self.uniform(-spread, spread)
        red, green, blue = (
            int(min(255, max(0, value + shared + self.uniform(-spread / 3, spread / 3)))) for value in colour
        )
        return red, green, blue


def draw_scene(bird: BirdClass, difficulty: Difficulty, seed: int, index: int) -> Scene:
    """Choose a scene with a bird of the class; depends on the arguments alone, not on other scenes.

    Args:
        bird: the class; parts that do not decide it get a variant at random.
        difficulty: how far everything varies.
        seed: of the data set, not negative.
        index: of the image, not negative; different splits use different ranges.

    Example:
        >>> from handful.birds import DIFFICULTIES, class_table
        >>> bird = class_table(4)[1]
        >>> draw_scene(bird, DIFFICULTIES["easy"], 0, 5) == draw_scene(bird, DIFFICULTIES["easy"], 0, 5)
        True
    """
    dice = _Dice(seed, index)
    pose = _pose(dice, difficulty)
    # A number is drawn for deciding parts too, so that tables with other deciding parts meet the same scenes.
    free = {part.name: dice.integer(0, len(part.variants) - 1) for part in PARTS}
    variants = {name: bird.variants.get(name, variant) for name, variant in free.items()}
    brightness = 1 + dice.uniform(-difficulty.light, difficulty.light)
    red, green, blue = (brightness * (1 + dice.uniform(-difficulty.light, difficulty.light) / 2) for _ in range(3))
    return Scene(
        label=bird.label,
        variants=variants,
        pose=pose,
        plumage=dice.near(dice.choice(_PLUMAGES), 14),
        backdrop=_backdrop(dice, pose),
        distractors=tuple(_distractor(dice) for _ in range(dice.integer(*difficulty.distractors))),
        occluders=tuple(_occluder(dice, pose) for _ in range(dice.integer(*difficulty.occluders))),
        light=Light((red, green, blue), difficulty.grain),
        noise=dice.integer(0, 2**31 - 1),
    )


def _pose(dice: _Dice, difficulty: Difficulty) -> Pose:
    scale = dice.uniform(*difficulty.scale)
    angle = dice.uniform(-difficulty.angle, difficulty.angle)
    facing_left = dice.uniform(0, 1) < 0.5
    corners = place(_EXTENT, 0.0, 0.0, scale, angle, facing_left)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)

    def within(low: float, high: float) -> float:
        return dice.uniform(-low, 1 - high) if -low < 1 - high else (1 - high - low) / 2

    return Pose(within(left, right), within(top, bottom), scale, angle, facing_left)


def _backdrop(dice: _Dice, pose: Pose) -> Backdrop:
    kind = dice.choice(BACKDROPS)
    things: list[Thing] = []
    if kind == "sky":
        top, bottom, mottle = dice.near((126, 178, 228), 24), dice.near((206, 226, 240), 16), 5.0
        things += [
            Thing(
                "cloud",
                dice.uniform(0, 1),
                dice.uniform(0, 0.6),
                dice.uniform(0.15, 0.4),
                0.0,
                dice.near((240, 244, 248), 8),
            )
            for _ in range(dice.integer(1, 3))
        ]
    elif kind == "branches":
        top, bottom, mottle = dice.near((186, 204, 206), 24), dice.near((150, 172, 150), 24), 10.0
        for _ in range(dice.integer(3, 5)):
            bark = dice.near(dice.choice(_BARKS), 18)
            x, y, angle = dice.uniform(0, 1), dice.uniform(0, 1), dice.uniform(0, 180)
            things.append(Thing("branch", x, y, dice.uniform(0.5, 1.0), angle, bark))
        things += [_leaf(dice, dice.uniform(0, 1), dice.uniform(0, 1)) for _ in range(dice.integer(3, 7))]
    elif kind == "foliage":
        top, bottom, mottle = dice.near((92, 128, 74), 24), dice.near((52, 84, 52), 20), 22.0
        things += [_leaf(dice, dice.uniform(0, 1), dice.uniform(0, 1)) for _ in range(dice.integer(16, 26))]
    else:
        top, bottom, mottle = dice.near((178, 208, 226), 20), dice.near((134, 158, 86), 20), 10.0
        things += [
            Thing(
                "hill",
                dice.uniform(0, 1),
                dice.uniform(0.75, 0.95),
                dice.uniform(0.5, 0.9),
                0.0,
                dice.near((110, 146, 76), 18),
            )
            for _ in range(2)
        ]
        things += [
            Thing(
                "grass",
                dice.uniform(0, 1),
                dice.uniform(0.85, 1.05),
                dice.uniform(0.15, 0.35),
                dice.uniform(-18, 18),
                dice.near(dice.choice(_GREENS), 16),
            )
            for _ in range(dice.integer(10, 18))
        ]
    x, y = place(_PERCH, pose.x, pose.y, pose.scale, pose.angle, pose.facing_left)[0]
    perch = Thing("branch", float(x), float(y), 1.6, dice.uniform(-10, 10), dice.near(dice.choice(_BARKS), 16))
    return Backdrop(kind, top, bottom, mottle, (*things, perch))


def _leaf(dice: _Dice, x: float, y: float) -> Thing:
    return Thing("leaf", x, y, dice.uniform(0.07, 0.17), dice.uniform(0, 360), dice.near(dice.choice(_GREENS), 20))


def _distractor(dice: _Dice) -> Thing:
    kind = dice.choice(("berry", "flower", "butterfly", "pebble"))
    x, y, angle = dice.uniform(0, 1), dice.uniform(0, 1), dice.uniform(0, 360)
    return Thing(kind, x, y, dice.uniform(0.03, 0.06), angle, dice.near(dice.choice(_GAY), 12))


def _occluder(dice: _Dice, pose: Pose) -> Thing:
    """A leaf or a twig near the bird, away from the anchors of its parts so that none is hidden entirely."""
    anchors = place(_ANCHORS, pose.x, pose.y, pose.scale, pose.angle, pose.facing_left)
    size = dice.uniform(0.10, 0.16)
    spots = []
    for _ in range(12):
        x, y = pose.x + dice.uniform(-0.9, 0.9) * pose.scale, pose.y + dice.uniform(-0.5, 0.6) * pose.scale
        spots.append((min(math.hypot(x - ax, y - ay) for ax, ay in anchors), x, y))
    # The first spot that is far enough, else the farthest.
    _, x, y = next((spot for spot in spots if spot[0] > 0.75 * size), max(spots))
    return Thing("leaf", x, y, size, dice.uniform(0, 360), dice.near(dice.choice(_GREENS), 20))
