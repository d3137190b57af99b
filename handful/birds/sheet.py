"""A sheet of toy birds to look at: some of each class beside one bird taken apart."""

import numpy as np
from PIL import Image

from handful.birds.dataset import ToyBirdsDataset
from handful.birds.parts import PART_NAMES
from handful.birds.render import Rendering

# one colour a part, in the order of PART_NAMES
_COLOURS = np.array([(230, 120, 30), (60, 90, 200), (170, 30, 190), (220, 50, 40), (240, 200, 40), (60, 160, 90)])


def contact_sheet(birds: ToyBirdsDataset, rows: int = 4, columns: int = 4, taken_apart: int = 0) -> Image.Image:
    """Return a picture: left, a row of images for each of the first classes; right, one image taken apart.

    The right side shows image `taken_apart` whole, its part masks in colours, and then without each of its parts.

    Args:
        birds: the data set.
        rows: number of classes to show.
        columns: images of each class to show.
        taken_apart: number of the image on the right.
    """
    n_classes = len(birds.classes)
    left = [[birds.rendering(row + n_classes * column).image for column in range(columns)] for row in range(rows)]
    whole = birds.rendering(taken_apart)
    bare = [birds.rendering(taken_apart, remove={part}).image for part in PART_NAMES]
    right = [whole.image, _coloured(whole), *bare]
    pairs = [right[start : start + 2] for start in range(0, len(right), 2)]
    sides = [np.concatenate([np.concatenate(line, axis=1) for line in lines]) for lines in (left, pairs)]
    height = max(side.shape[0] for side in sides)
    gap = np.full((height, birds.size // 8, 3), 255, dtype=np.uint8)
    filled = [np.pad(side, ((0, height - len(side)), (0, 0), (0, 0)), constant_values=255) for side in sides]
    return Image.fromarray(np.concatenate([filled[0], gap, filled[1]], axis=1))


def _coloured(drawn: Rendering) -> np.ndarray:
    """Return the image, pale, with every part in its colour."""
    picture = drawn.image * 0.3 + 165
    for coverage, colour in zip(drawn.coverage, _COLOURS, strict=True):
        picture = picture + coverage[..., None] * (colour - picture)
    return picture.astype(np.uint8)
