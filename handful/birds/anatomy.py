"""The parts of a toy bird: every variant of every part as a few flat shapes.

Bird coordinates: the origin lies in the middle of the body, x points to where the beak is, y points down, and the
body is about one unit long. Variants of one part differ in shape and in colour or pattern. The body carries no
information about the class: it is the same for all, in a plumage colour that each scene draws for itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from handful.birds.geometry import Points, ellipse, points, smooth, stroke

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Shape:
    """A polygon of one colour; `colour` None stands for the scene's plumage, times `shade`."""

    outline: Points
    colour: Colour | None
    shade: float = 1.0


@dataclass(frozen=True)
class Variant:
    """One way a part can look: its name and its shapes, drawn in this order."""

    name: str
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Part:
    """A part of the bird: its name, its variants and its anchor, the point (x, y) in bird coordinates it sits at."""

    name: str
    anchor: tuple[float, float]
    variants: tuple[Variant, ...]


INK: Colour = (26, 24, 30)


def _variant(name: str, *shapes: tuple[Points, Colour]) -> Variant:
    return Variant(name, tuple(Shape(outline, colour) for outline, colour in shapes))


# -- body -------------------------------------------------------------------------------------------------------------

_BODY = smooth(
    points(
        (0.50, -0.37), (0.47, -0.47), (0.37, -0.545), (0.25, -0.51), (0.16, -0.39), (0.04, -0.26), (-0.18, -0.13),
        (-0.40, 0.02), (-0.53, 0.10), (-0.50, 0.17), (-0.36, 0.23), (-0.14, 0.315), (0.10, 0.315), (0.29, 0.22),
        (0.41, 0.05), (0.455, -0.13), (0.47, -0.27),
    )
)  # fmt: skip
_BELLY = smooth(
    points((-0.50, 0.15), (-0.30, 0.18), (0.0, 0.22), (0.25, 0.16), (0.29, 0.22), (0.10, 0.315), (-0.14, 0.315),
           (-0.36, 0.235))
)  # fmt: skip
_CROWN = smooth(points((0.50, -0.41), (0.47, -0.47), (0.37, -0.545), (0.25, -0.51), (0.19, -0.43), (0.33, -0.47)))

BODY = Variant("body", (Shape(_BODY, None), Shape(_BELLY, None, 1.16), Shape(_CROWN, None, 0.84)))


# -- beak: sits at the front of the head, points to +x ------------------------------------------------------------------


def _beaks() -> tuple[Variant, ...]:
    cone = points((0.455, -0.475), (0.56, -0.435), (0.685, -0.335), (0.56, -0.275), (0.455, -0.255))
    hook = smooth(
        points((0.45, -0.45), (0.57, -0.455), (0.68, -0.38), (0.695, -0.25), (0.66, -0.20), (0.625, -0.295),
               (0.55, -0.30), (0.45, -0.285)), 4)  # fmt: skip
    hook_tip = smooth(points((0.655, -0.40), (0.695, -0.34), (0.70, -0.25), (0.66, -0.195), (0.62, -0.30)), 4)
    dagger = points((0.45, -0.425), (0.60, -0.40), (0.93, -0.335), (0.60, -0.315), (0.45, -0.30))
    sickle = smooth(
        points((0.45, -0.425), (0.60, -0.42), (0.75, -0.34), (0.84, -0.20), (0.875, -0.05), (0.80, -0.17),
               (0.70, -0.285), (0.58, -0.335), (0.45, -0.31)), 4)  # fmt: skip
    spatula = smooth(
        points((0.45, -0.42), (0.58, -0.395), (0.68, -0.42), (0.80, -0.425), (0.86, -0.34), (0.80, -0.255),
               (0.68, -0.27), (0.58, -0.315), (0.45, -0.30)), 4)  # fmt: skip
    return (
        _variant("cone", (cone, (244, 146, 30)), (stroke(points((0.46, -0.345), (0.68, -0.335)), 0.022), (150, 74, 8))),
        _variant("hook", (hook, (250, 216, 52)), (hook_tip, INK)),
        _variant("dagger", (dagger, (40, 40, 50)), (stroke(points((0.47, -0.362), (0.90, -0.335)), 0.018), (132, 132, 146))),
        _variant("sickle", (sickle, (214, 40, 52))),
        _variant("spatula", (spatula, (104, 160, 206)), (ellipse(0.80, -0.34, 0.045, 0.05), (52, 88, 140))),
    )  # fmt: skip


# -- eye ----------------------------------------------------------------------------------------------------------------


def _eyes() -> tuple[Variant, ...]:
    x, y = 0.355, -0.40
    brow = smooth(points((0.49, -0.475), (0.38, -0.53), (0.24, -0.50), (0.15, -0.40), (0.27, -0.455), (0.39, -0.475)), 4)
    mask = smooth(points((0.49, -0.41), (0.38, -0.475), (0.24, -0.455), (0.10, -0.33), (0.26, -0.335), (0.40, -0.325),
                         (0.485, -0.34)), 4)  # fmt: skip
    drop = smooth(points((0.455, -0.405), (0.39, -0.485), (0.28, -0.465), (0.245, -0.38), (0.27, -0.27), (0.33, -0.20),
                         (0.38, -0.315)), 4)  # fmt: skip
    return (
        _variant("ring", (ellipse(x, y, 0.105, 0.105), (250, 250, 246)), (ellipse(x, y, 0.062, 0.062), INK)),
        _variant("brow", (brow, (255, 248, 214)), (ellipse(x, y, 0.068, 0.068), (252, 206, 32)), (ellipse(x, y, 0.034, 0.034), INK)),
        _variant("mask", (mask, (20, 18, 24)), (ellipse(x, y, 0.055, 0.055), (232, 36, 30)), (ellipse(x, y, 0.024, 0.024), INK)),
        _variant("teardrop", (drop, (72, 178, 232)), (ellipse(x, y, 0.056, 0.056), INK), (ellipse(x + 0.02, y - 0.02, 0.018, 0.018), (255, 255, 255))),
    )  # fmt: skip


# -- breast: a strip along the front of the body, addressed by (u, v): u from throat to belly, v from inside to outline --

_BREAST_OUTSIDE = points((0.47, -0.27), (0.455, -0.13), (0.41, 0.05), (0.29, 0.22), (0.10, 0.315), (-0.14, 0.315))
_BREAST_INSIDE = points((0.30, -0.285), (0.235, -0.15), (0.15, -0.02), (0.05, 0.08), (-0.06, 0.15), (-0.18, 0.21))


def _on_breast(u: np.ndarray | float, v: np.ndarray | float) -> Points:
    u, v = np.broadcast_arrays(np.asarray(u, dtype=np.float64), np.asarray(v, dtype=np.float64))
    knots = np.linspace(0, 1, len(_BREAST_OUTSIDE))
    inside, outside = (
        np.stack([np.interp(u, knots, curve[:, 0]), np.interp(u, knots, curve[:, 1])], axis=-1)
        for curve in (_BREAST_INSIDE, _BREAST_OUTSIDE)
    )
    return inside + (outside - inside) * v[..., None]


def _breast_band(start: float, stop: float, inside: float = 0.0, outside: float = 1.0) -> Points:
    u = np.linspace(start, stop, 12)
    return np.concatenate([_on_breast(u, outside), _on_breast(u[::-1], inside)])


def _breasts() -> tuple[Variant, ...]:
    bib = np.concatenate([_on_breast(np.linspace(0, 0.62, 10), 1.0), smooth(_on_breast(np.array([0.5, 0.3, 0.1, 0.0]), np.array([0.35, 0.05, 0.0, 0.0])))[:12]])
    spots = [
        (ellipse(*_on_breast(u, v), 0.032, 0.032, corners=10), (70, 44, 26))
        for u, row in ((0.10, (0.3, 0.75)), (0.26, (0.15, 0.5, 0.85)), (0.42, (0.3, 0.7)), (0.56, (0.15, 0.5, 0.85)), (0.70, (0.3, 0.75)), (0.85, (0.5,)))
        for v in row
    ]
    bars = [(_breast_band(u, u + 0.075), (74, 78, 92)) for u in (0.03, 0.19, 0.35, 0.51, 0.67, 0.83)]
    return (
        _variant("bib", (bib, (220, 52, 32))),
        _variant("spotted", (_breast_band(0, 0.97), (252, 238, 204)), *spots),
        _variant("barred", (_breast_band(0, 0.97), (240, 240, 244)), *bars),
        _variant("belted", (_breast_band(0.40, 1.0, 0.0), (250, 214, 40)), (_breast_band(0.30, 0.46), INK)),
        _variant("striped", (_breast_band(0, 0.97, 0.25), (62, 186, 168)), (_breast_band(0, 0.9, 0.5, 0.76), (14, 52, 72))),
    )  # fmt: skip


# -- wing ---------------------------------------------------------------------------------------------------------------


def _wings() -> tuple[Variant, ...]:
    shield = smooth(points((0.19, -0.16), (0.05, -0.22), (-0.16, -0.11), (-0.35, 0.04), (-0.42, 0.15), (-0.28, 0.20),
                           (-0.06, 0.17), (0.11, 0.07), (0.20, -0.05)))  # fmt: skip
    scales = [
        (stroke(smooth(points((x - 0.06, y - 0.05), (x - 0.075, y + 0.02), (x, y + 0.055), (x + 0.055, y + 0.02)), 3)[:10], 0.028), (226, 184, 128))
        for x, y in ((0.08, -0.08), (-0.03, 0.03), (-0.13, -0.03), (-0.16, 0.10), (-0.27, 0.09))
    ]  # fmt: skip
    pointed = smooth(points((0.20, -0.14), (0.06, -0.22), (-0.18, -0.12), (-0.45, 0.0), (-0.74, 0.09), (-0.44, 0.15),
                            (-0.14, 0.15), (0.10, 0.07), (0.20, -0.04)))  # fmt: skip
    bar = [(points((x, y), (x - 0.07, y + 0.02), (x - 0.15, y + 0.22), (x - 0.08, y + 0.21)), (246, 248, 255)) for x, y in ((0.07, -0.19), (-0.10, -0.13))]
    paddle = smooth(points((0.20, -0.12), (0.10, -0.22), (-0.08, -0.20), (-0.27, -0.09), (-0.37, 0.08), (-0.26, 0.23),
                           (-0.06, 0.245), (0.12, 0.14), (0.21, 0.0)))  # fmt: skip
    dots = [(ellipse(x, y, 0.034, 0.034, corners=10), (226, 246, 150)) for x, y in ((0.09, -0.10), (-0.03, -0.11), (0.07, 0.03), (-0.07, 0.02), (-0.19, -0.04), (-0.01, 0.14), (-0.15, 0.12), (-0.27, 0.07))]
    blade = smooth(points((0.20, -0.15), (0.02, -0.21), (-0.22, -0.09), (-0.52, 0.05), (-0.66, 0.17), (-0.40, 0.16),
                          (-0.30, 0.245), (-0.18, 0.17), (-0.08, 0.215), (0.02, 0.12), (0.13, 0.10), (0.20, -0.03)))  # fmt: skip
    patch = smooth(points((0.15, -0.11), (0.02, -0.15), (-0.13, -0.07), (-0.07, 0.03), (0.08, 0.02)))
    raised = smooth(points((0.17, -0.10), (0.06, -0.36), (-0.06, -0.60), (-0.24, -0.80), (-0.25, -0.62), (-0.37, -0.64),
                           (-0.34, -0.47), (-0.44, -0.44), (-0.37, -0.28), (-0.40, -0.20), (-0.22, -0.03), (0.0, 0.04)), 4)  # fmt: skip
    covert = smooth(points((0.14, -0.10), (0.05, -0.32), (-0.07, -0.42), (-0.20, -0.28), (-0.20, -0.10), (0.0, -0.01)))
    return (
        _variant("scaled", (shield, (138, 84, 40)), *scales),
        _variant("barred", (pointed, (44, 88, 190)), *bar),
        _variant("dotted", (paddle, (44, 128, 60)), *dots),
        _variant("patched", (blade, (30, 28, 36)), (patch, (252, 212, 30))),
        _variant("raised", (raised, (92, 26, 40)), (covert, (226, 74, 62))),
    )


# -- tail: leaves the body at its rump, backwards ------------------------------------------------------------------------


def _on_tail(local: Points, angle: float) -> Points:
    """Turn points (along, across) of a tail into bird coordinates; `angle` in degrees below the horizontal."""
    radians = np.radians(angle)
    back, side = np.array([-np.cos(radians), np.sin(radians)]), np.array([np.sin(radians), np.cos(radians)])
    return np.array([-0.43, 0.09]) + local[:, :1] * back + local[:, 1:] * side


def _tails() -> tuple[Variant, ...]:
    def band(start: float, stop: float, w_start: float, w_stop: float) -> Points:
        return points((start, -w_start), (stop, -w_stop), (stop, w_stop), (start, w_start))

    fan = smooth(points((0.0, -0.07), (0.25, -0.16), (0.44, -0.26), (0.52, -0.15), (0.55, 0.0), (0.52, 0.15),
                        (0.44, 0.26), (0.25, 0.16), (0.0, 0.07)), 4)  # fmt: skip
    fan_edge = smooth(points((0.36, -0.215), (0.44, -0.26), (0.52, -0.15), (0.55, 0.0), (0.52, 0.15), (0.44, 0.26),
                             (0.36, 0.215), (0.43, 0.11), (0.455, 0.0), (0.43, -0.11)), 4)  # fmt: skip
    fork = points((0.0, -0.07), (0.30, -0.10), (0.66, -0.20), (0.38, 0.0), (0.66, 0.20), (0.30, 0.10), (0.0, 0.07))
    shaft = points((0.0, -0.065), (0.20, -0.035), (0.56, -0.016), (0.56, 0.016), (0.20, 0.035), (0.0, 0.065))
    square = points((0.0, -0.07), (0.10, -0.085), (0.46, -0.095), (0.46, 0.095), (0.10, 0.085), (0.0, 0.07))
    cocked = smooth(points((-0.02, -0.06), (0.20, -0.085), (0.42, -0.075), (0.47, 0.0), (0.42, 0.075), (0.20, 0.085),
                           (-0.02, 0.08)), 4)  # fmt: skip
    droop, up = 20.0, -52.0
    return (
        _variant("fan", (_on_tail(fan, droop), (196, 98, 38)), (_on_tail(fan_edge, droop), (58, 30, 18))),
        _variant("forked", (_on_tail(fork, droop), (48, 62, 150))),
        _variant("racket", (_on_tail(shaft, droop), (20, 112, 84)), (_on_tail(ellipse(0.60, 0.0, 0.11, 0.075), droop), (30, 196, 130)), (_on_tail(ellipse(0.61, 0.0, 0.05, 0.035), droop), (10, 66, 56))),
        _variant("ladder", (_on_tail(square, droop), (244, 244, 240)), *[(_on_tail(band(a, a + 0.075, 0.09, 0.095), droop), INK) for a in (0.08, 0.235, 0.39)]),
        _variant("cocked", (_on_tail(cocked, up), (146, 66, 158)), (_on_tail(band(0.34, 0.42, 0.08, 0.075), up), (250, 224, 240))),
    )  # fmt: skip


# -- feet: two legs below the belly --------------------------------------------------------------------------------------

_HIPS, _GROUND = (-0.07, 0.10), 0.575


def _feet() -> tuple[Variant, ...]:
    def leg(x: float, width: float, top: float = 0.27, bottom: float = _GROUND) -> Points:
        return stroke(points((x, top), (x + 0.02, bottom)), width)

    perching: list[tuple[Points, Colour]] = []
    webbed: list[tuple[Points, Colour]] = []
    booted: list[tuple[Points, Colour]] = []
    banded: list[tuple[Points, Colour]] = []
    for hip in _HIPS:
        foot = hip + 0.02
        perching += [(leg(hip, 0.034), (240, 134, 40))]
        perching += [(stroke(points((foot, _GROUND - 0.02), (foot + dx, _GROUND + dy)), 0.034), (240, 134, 40)) for dx, dy in ((0.12, -0.015), (0.10, 0.045), (-0.08, 0.015))]
        web = smooth(points((foot - 0.03, _GROUND - 0.04), (foot + 0.15, _GROUND - 0.01), (foot + 0.13, _GROUND + 0.055), (foot - 0.02, _GROUND + 0.045)), 3)
        webbed += [(leg(hip, 0.055), (46, 150, 214)), (web, (46, 150, 214))]
        thigh = smooth(points((hip - 0.07, 0.25), (hip + 0.07, 0.25), (hip + 0.075, 0.40), (hip + 0.02, 0.51), (hip - 0.045, 0.42)), 4)
        claws = [(stroke(points((foot, _GROUND - 0.06), (foot + dx, _GROUND + 0.03)), 0.04), (34, 30, 34)) for dx in (0.10, 0.03, -0.05)]
        booted += [*claws, (thigh, (250, 246, 234))]
        banded += [(leg(hip, 0.052), (236, 84, 132)), (leg(hip + 0.006, 0.056, 0.35, 0.39), INK), (leg(hip + 0.012, 0.056, 0.45, 0.49), INK)]
        banded += [(ellipse(foot + 0.02, _GROUND + 0.01, 0.075, 0.03, corners=12), (236, 84, 132))]
    return (
        _variant("perching", *perching),
        _variant("webbed", *webbed),
        _variant("booted", *booted),
        _variant("banded", *banded),
    )  # fmt: skip


def _part(name: str, anchor: tuple[float, float], build: Callable[[], tuple[Variant, ...]]) -> Part:
    return Part(name, anchor, build())


PARTS: tuple[Part, ...] = (
    _part("beak", (0.56, -0.355), _beaks),
    _part("wing", (-0.06, -0.04), _wings),
    _part("tail", (-0.60, 0.13), _tails),
    _part("breast", (0.33, 0.0), _breasts),
    _part("eye", (0.355, -0.40), _eyes),
    _part("feet", (0.03, 0.48), _feet),
)
PART_NAMES: tuple[str, ...] = tuple(part.name for part in PARTS)

# What is drawn before the body, and after it: nearer parts hide farther ones.
BEHIND_BODY: tuple[str, ...] = ("tail", "feet")
BEFORE_BODY: tuple[str, ...] = ("breast", "beak", "eye", "wing")
