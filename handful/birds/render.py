"""Drawing a scene: the picture, which pixels show which part, and where the parts sit."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from handful.birds.anatomy import Colour, Shape
from handful.birds.geometry import Points, place
from handful.birds.parts import BEFORE_BODY, BEHIND_BODY, BODY, PART_NAMES, PARTS
from handful.birds.scene import Scene, Thing
from handful.birds.things import THINGS
from handful.errors import UserError

BODY_NAME = "body"
BIRD_NAME = "bird"  # in `remove`: the body and all parts, so that the background alone is left

MIN_SIZE = 16  # pixels; below, parts are too small to tell apart

_BODY_ID = len(PARTS) + 1
_PART_OF = {part.name: part for part in PARTS}


@dataclass(frozen=True)
class Rendering:
    """A drawn scene.

    Attributes:
        image: uint8 `(size, size, 3)`, RGB.
        coverage: float32 `(parts, size, size)`, the share of each pixel in which the part is seen, in [0, 1], parts in
            the order of `PART_NAMES`; what other parts or leaves hide does not count.
        bird: float32 `(size, size)`, the same for the whole bird.
        positions: float64 `(parts, 2)`, x and y of each part's anchor in pixels, whether or not it is seen.

    Example:
        >>> from handful.birds import ToyBirdsDataset
        >>> scene = ToyBirdsDataset(n_classes=4, images_per_class=1).scene(0)
        >>> render(scene, 32).masks.shape == (len(PART_NAMES), 32, 32)
        True
    """

    image: npt.NDArray[np.uint8]
    coverage: npt.NDArray[np.float32]
    bird: npt.NDArray[np.float32]
    positions: npt.NDArray[np.float64]

    @property
    def masks(self) -> npt.NDArray[np.bool_]:
        """Bool `(parts, size, size)`: the pixels that show something of each part."""
        return self.coverage > 0


def render(
    scene: Scene, size: int, remove: Collection[str] = (), replace: Mapping[str, int] | None = None
) -> Rendering:
    """Draw the scene, `size` pixels wide and high; the same arguments give the same bytes.

    Args:
        scene: what to draw.
        size: side of the picture in pixels, at least 16.
        remove: parts to leave out (also "body", or "bird" for everything that is a bird); all else stays as it was.
        replace: part name to number of the variant to draw instead of the scene's own.

    Raises:
        UserError: an unknown part or variant, or a picture too small.

    Example:
        >>> from handful.birds import ToyBirdsDataset
        >>> scene = ToyBirdsDataset(n_classes=4, images_per_class=1).scene(0)
        >>> render(scene, 32, remove=["wing"]).image.shape
        (32, 32, 3)
    """
    if size < MIN_SIZE:
        raise UserError(f"size must be at least {MIN_SIZE} pixels, not {size}.")
    variants = dict(scene.variants) | _checked(replace or {})
    hidden = _removed(remove)
    oversampling = 4 if size <= 64 else 3 if size <= 128 else 2
    canvas = _Canvas(scene, size, oversampling)
    for thing in (*scene.backdrop.ornaments, *scene.distractors):
        canvas.thing(thing)
    for name in (*BEHIND_BODY, BODY_NAME, *BEFORE_BODY):
        if name in hidden:
            continue
        if name == BODY_NAME:
            canvas.bird(BODY.shapes, _BODY_ID)
        else:
            canvas.bird(_PART_OF[name].variants[variants[name]].shapes, PART_NAMES.index(name) + 1)
    for thing in scene.occluders:
        canvas.thing(thing, in_front=True)
    return canvas.finish()


def _checked(replace: Mapping[str, int]) -> dict[str, int]:
    for name, variant in replace.items():
        if name not in _PART_OF:
            raise UserError(f"A toy bird has no part {name!r}; its parts are {', '.join(PART_NAMES)}.")
        if not 0 <= variant < len(_PART_OF[name].variants):
            raise UserError(
                f"The part {name!r} has the variants 0 to {len(_PART_OF[name].variants) - 1}, not {variant}."
            )
    return dict(replace)


def _removed(remove: Collection[str]) -> set[str]:
    names = {remove} if isinstance(remove, str) else set(remove)
    for name in names:
        if name not in _PART_OF and name not in (BODY_NAME, BIRD_NAME):
            raise UserError(f"A toy bird has no part {name!r}; its parts are {', '.join(PART_NAMES)}, body, bird.")
    return names | {BODY_NAME, *PART_NAMES} if BIRD_NAME in names else names


class _Canvas:
    """The picture in the making, several times larger than it will be, beside a map of which part each point shows."""

    def __init__(self, scene: Scene, size: int, oversampling: int) -> None:
        self._scene, self._size, self._oversampling = scene, size, oversampling
        self._side = size * oversampling
        self._picture = _backdrop(scene, self._side)
        self._parts = Image.new("L", (self._side, self._side), 0)
        self._pen, self._part_pen = ImageDraw.Draw(self._picture), ImageDraw.Draw(self._parts)

    def thing(self, thing: Thing, in_front: bool = False) -> None:
        for outline, shade in THINGS[thing.kind]:
            corners = self._corners(place(outline, thing.x, thing.y, thing.size, thing.angle))
            self._pen.polygon(corners, fill=_shaded(thing.colour, shade))
            if in_front:
                self._part_pen.polygon(corners, fill=0)

    def bird(self, shapes: tuple[Shape, ...], part_id: int) -> None:
        pose = self._scene.pose
        for shape in shapes:
            placed = place(shape.outline, pose.x, pose.y, pose.scale, pose.angle, pose.facing_left)
            corners = self._corners(placed)
            self._pen.polygon(corners, fill=_shaded(shape.colour or self._scene.plumage, shape.shade))
            self._part_pen.polygon(corners, fill=part_id)

    def finish(self) -> Rendering:
        size, factor, scene = self._size, self._oversampling, self._scene
        ids = np.asarray(self._parts).reshape(size, factor, size, factor).transpose(0, 2, 1, 3).reshape(size, size, -1)
        coverage = np.stack([(ids == part).mean(axis=2, dtype=np.float32) for part in range(1, len(PARTS) + 1)])
        bird = (ids > 0).mean(axis=2, dtype=np.float32)
        colours = np.asarray(self._picture.reduce(factor), dtype=np.float32)
        colours = colours * (1 + bird * self._relief())[..., None] * np.asarray(scene.light.gain, dtype=np.float32)
        rng = np.random.default_rng([scene.noise, 2])
        colours += scene.light.grain * rng.standard_normal((size, size, 1), dtype=np.float32)
        anchors = np.array([part.anchor for part in PARTS])
        pose = scene.pose
        positions = place(anchors, pose.x, pose.y, pose.scale, pose.angle, pose.facing_left) * size
        return Rendering(np.clip(np.rint(colours), 0, 255).astype(np.uint8), coverage, bird, positions)

    def _relief(self) -> npt.NDArray[np.float32]:
        """Light from above that makes the flat bird look round: between -0.22 (below) and 0.10 (above)."""
        heights = (np.arange(self._size, dtype=np.float32) + 0.5) / self._size
        down = np.clip((heights - self._scene.pose.y) / self._scene.pose.scale + 0.1, -0.5, 0.5)
        return np.broadcast_to(-0.06 - 0.32 * down[:, None], (self._size, self._size))

    def _corners(self, placed: Points) -> list[float]:
        return (placed * self._side - 0.5).ravel().tolist()


def _backdrop(scene: Scene, side: int) -> Image.Image:
    """The gradient with soft blots of light, laid out on small grids whatever the size and enlarged."""
    backdrop, grid = scene.backdrop, 24
    down = np.linspace(0, 1, grid, dtype=np.float32)[:, None, None]
    colours = (1 - down) * np.asarray(backdrop.top, np.float32) + down * np.asarray(backdrop.bottom, np.float32)
    blots = np.random.default_rng([scene.noise, 1]).standard_normal((7, 7), dtype=np.float32)
    soft = np.asarray(Image.fromarray(blots).resize((grid, grid), Image.Resampling.BICUBIC))
    small = np.clip(colours + backdrop.mottle * soft[..., None], 0, 255).astype(np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def _shaded(colour: Colour, shade: float) -> Colour:
    red, green, blue = (min(255, round(value * shade)) for value in colour)
    return red, green, blue
