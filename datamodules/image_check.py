"""Reading every image of a data set once: what cannot be read, and what is there more than once."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from datamodules.images import pixel_digest
from datamodules.listing import Listing, is_utf8
from handful.errors import UserError
from handful.images import open_image, resize
from handful.images.placement import lies_outside
from handful.images.upright import Turn
from handful.progress import ProgressBar

RepeatsPolicy = Literal["refuse", "warn", "drop"]
UnreadablePolicy = Literal["refuse", "skip"]

_FILE = "reading.json"
# The split that keeps an image which stands in several: what is measured on stays whole.
_KEEPS = ("test", "val", "train")

Place = tuple[str, int]  # split and position in its list of files


@dataclass
class Reading:
    """What reading all images has shown.

    Attributes:
        unreadable: split, position and the reason, as a sentence that names the file.
        equal: groups of images with equal pixels, each two or more dataset indices, in the order of reading.
    """

    unreadable: list[tuple[str, int, str]] = field(default_factory=list)
    equal: list[list[Place]] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Return plain values of which `of_plain` makes the same again."""
        return asdict(self)

    def save(self, folder: Path) -> None:
        """Write to a folder what `load` reads."""
        (folder / _FILE).write_text(json.dumps(self.plain()))

    @classmethod
    def load(cls, folder: Path) -> "Reading":
        """Return what `save` wrote."""
        return cls.of_plain(json.loads((folder / _FILE).read_text()))

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Whether a folder holds what `save` wrote."""
        try:
            return cls.is_plain(json.loads((folder / _FILE).read_text()))
        except (OSError, ValueError, RecursionError):
            return False

    @classmethod
    def is_plain(cls, value: Any) -> bool:
        """Whether these are plain values of `plain`, which a damaged cache need not hold."""
        try:
            cls.of_plain(value)
        except (KeyError, TypeError, ValueError):
            return False
        return True

    @classmethod
    def of_plain(cls, plain: dict[str, Any]) -> "Reading":
        """Return what `plain` was taken of."""
        groups = [[(split, number) for split, number in group] for group in plain["equal"]]
        return cls([(split, number, reason) for split, number, reason in plain["unreadable"]], groups)

    def conflicts(self, listing: Listing) -> list[str]:
        """Return a sentence for every image that stands in another split or class too."""
        found = []
        for first, *others in self.equal:
            for other in others:
                what = "splits" if first[0] != other[0] else "classes"
                if first[0] != other[0] or listing.label(*first) != listing.label(*other):
                    one, two = listing.shown(*first), listing.shown(*other)
                    found.append(f"The same image is in two {what}: {one} and {two} have equal pixels.")
        return found

    def repeats(self, split: str) -> dict[int, int]:
        """Return, by position of an image in a split, the position of the first image of that split equal to it."""
        found: dict[int, int] = {}
        for group in self.equal:
            positions = [number for name, number in group if name == split]
            found |= dict.fromkeys(positions[1:], positions[0]) if positions else {}
        return found

    def dropped(self, listing: Listing) -> dict[Place, str]:
        """Return which images go where each is to be there once, with the reason.

        An image under two classes goes altogether, since nothing says which is right.
        """
        gone: dict[Place, str] = {}
        for group in self.equal:
            if len({listing.label(*place) for place in group}) > 1:
                gone |= dict.fromkeys(group, "that stand in two classes")
                continue
            kept = min(group, key=lambda place: (_KEEPS.index(place[0]), place[1]))
            gone |= {place: "repeated" for place in group if place != kept}
        return gone


class Reader:
    """Reads the images of a listing, split by split, and notes what it meets.

    Args:
        listing: the files.
        size: length of the shorter side to resize to; None leaves the size.
        white: see `handful.images.read_image`, as below.
        max_pixels: see there.
        fit: see `handful.images.resize`.
    """

    def __init__(
        self, listing: Listing, size: int | None, white: float | None, max_pixels: int, fit: str = "crop"
    ) -> None:
        self._listing, self._size, self._fit = listing, size, fit
        self._white, self._max_pixels = white, max_pixels
        self._seen: dict[bytes, list[Place]] = {}
        self._reading = Reading()
        self._outside: list[str] = []  # names of pictures whose box holds none of them

    def images(self) -> Iterator[tuple[str, Iterator[npt.NDArray[np.uint8]]]]:
        """Yield each split with its decoded images, uint8 `(h, w, 3)`; a single pixel for one that cannot be read."""
        with ProgressBar(self._listing.count, "reading images") as bar:
            for split, files in self._listing.files.items():

                def read(split: str = split, count: int = len(files)) -> Iterator[npt.NDArray[np.uint8]]:
                    for number in range(count):
                        yield self._image(split, number)
                        bar.update()

                yield split, read()

    def _image(self, split: str, number: int) -> npt.NDArray[np.uint8]:
        tree, (path, _) = self._listing.tree, self._listing.files[split][number]
        name = self._listing.shown(split, number)
        try:
            if not is_utf8(path):
                raise UserError(f"{name} cannot be used: its name is not UTF-8; rename it, for example with convmv.")
            source = tree.source(path)
            image = open_image(source, name, white=self._white, max_pixels=self._max_pixels, least=self._size)
        except UserError as error:
            self._reading.unreadable.append((split, number, str(error)))
            return np.zeros((1, 1, 3), dtype=np.uint8)
        # before resizing, which can make different images equal
        self._seen.setdefault(pixel_digest(image), []).append((split, number))
        box = self._listing.boxes.get(path)
        if box is None:
            return resize(image, self._size, self._fit)
        turn = Turn.of(source)
        if lies_outside(turn.stored, box):
            self._outside.append(name)
        return resize(image, self._size, self._fit, turn.box(box))

    def close(self) -> Reading:
        """Return what was met."""
        if self._outside:
            warnings.warn(f"{len(self._outside):,} boxes lie outside their pictures, such as that of "
                          f"{self._outside[0]}: all of the picture is taken in their place", stacklevel=2)  # fmt: skip
        self._reading.equal = [group for group in self._seen.values() if len(group) > 1]
        return self._reading
