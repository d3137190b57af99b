"""Plane geometry of the toy birds: smooth outlines, ellipses and the placing of shapes in the picture.

Points are float64 arrays `(n, 2)` of (x, y) with y pointing down, as in the picture.
"""

import math

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


def points(text: str) -> Points:
    """Return the points of a text like "0.5,-0.3 0.4,0.1" (as in SVG) as an array `(n, 2)`."""
    return np.array([pair.split(",") for pair in text.split()], dtype=np.float64)


def smooth(outline: Points, steps: int = 5) -> Points:
    """Return the closed Catmull-Rom curve through `outline`, with `steps` points between two of its corners."""
    before, here = np.roll(outline, 1, axis=0), outline
    after, beyond = np.roll(outline, -1, axis=0), np.roll(outline, -2, axis=0)
    pieces = []
    for t in np.arange(steps) / steps:
        pieces.append(
            0.5
            * (
                2 * here
                + (after - before) * t
                + (2 * before - 5 * here + 4 * after - beyond) * t**2
                + (3 * here - before - 3 * after + beyond) * t**3
            )
        )
    return np.stack(pieces, axis=1).reshape(-1, 2)


def ellipse(x: float, y: float, rx: float, ry: float, angle: float = 0.0, corners: int = 20) -> Points:
    """Return an ellipse around (x, y) as a polygon; `angle` in degrees turns it clockwise in the picture."""
    turn = np.arange(corners) * (2 * math.pi / corners)
    outline = np.stack([rx * np.cos(turn), ry * np.sin(turn)], axis=1)
    return outline @ _rotation(angle).T + np.array([x, y])


def stroke(line: Points, width: float) -> Points:
    """Return the polygon of a line through the points of `line` that is `width` wide everywhere."""
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) * (width / 2)
    return np.concatenate([line + across, (line - across)[::-1]])


def place(shape: Points, x: float, y: float, scale: float, angle: float = 0.0, mirrored: bool = False) -> Points:
    """Mirror `shape` left to right if asked, turn it by `angle` degrees, scale it and move its origin to (x, y)."""
    turned = (shape * np.array([-1.0, 1.0]) if mirrored else shape) @ _rotation(angle).T
    return turned * scale + np.array([x, y])


def _rotation(angle: float) -> Points:
    radians = math.radians(angle)
    cosine, sine = math.cos(radians), math.sin(radians)
    return np.array([[cosine, -sine], [sine, cosine]])
