"""Folders whose name is one of thumbnails or system files, and that may be a class: their pictures decide."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from handful.errors import UserError
from handful.images.clutter import is_doubtful
from handful.images.formats import is_image_name
from handful.images.reading import read_image

#: Pictures of a folder that are looked at, and others of the same place or name that each is compared with.
_LOOKED_AT, _COMPARED = 8, 4

#: Largest mean difference of two pictures that show the same, in grey values from 0 to 255, at `_SIDE` pixels.
_ALIKE, _SIDE = 12.0, 8

#: What programs put before or behind the name of a picture for its thumbnail.
_MARKS = re.compile(r"^(thumb(nail)?|tn|small)[-_. ]|[-_. ]?(thumb(nail)?|tn|small|\d{1,5}x\d{1,5})$")

Read = Callable[[str], bytes | Path]
_Small = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def doubtful_folders(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the outermost folders with a doubtful name, each with the paths of what lies in it.

    Example:
        >>> doubtful_folders(["owl/1.png", "thumbnails/1.png"])
        {'thumbnails': ['thumbnails/1.png']}
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        parts = path.split("/")
        place = next((n for n, part in enumerate(parts[:-1]) if is_doubtful(part)), None)
        if place is not None:
            found.setdefault("/".join(parts[: place + 1]), []).append(path)
    return found


def by_plain_name(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return paths of images by their names without what marks thumbnails, alone and behind folders, for `are_copies`.

    Example:
        >>> by_plain_name(["owl/thumb_1.png"])
        {'owl/1': ['owl/thumb_1.png'], '1': ['owl/thumb_1.png']}
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        for name in dict.fromkeys(_plain_names(path)):
            found.setdefault(name, []).append(path)
    return found


def _plain_names(path: str) -> tuple[str, str, str]:
    """Behind all folders but doubtful ones, behind the last of these, and alone."""
    *folders, _ = path.split("/")
    folders = [folder for folder in folders if not is_doubtful(folder)] or [""]
    name = _MARKS.sub("", PurePosixPath(path).stem.lower())
    return f"{'/'.join(folders)}/{name}", f"{folders[-1]}/{name}", name


def are_copies(pictures: Sequence[str], others: Mapping[str, Sequence[str]], read: Read) -> bool:
    """Say whether pictures are copies of others that are named alike, judged by some of them.

    Args:
        pictures: paths of the images of a folder.
        others: images elsewhere, as `by_plain_name` gives them.
        read: gives the content of a file, or where it lies.
    """
    some = pictures[:: -(-len(pictures) // _LOOKED_AT) or 1]
    alike = sum(_has_original(path, others, read) for path in some)
    return 2 * alike > len(some)


def _has_original(path: str, others: Mapping[str, Sequence[str]], read: Read) -> bool:
    """Whether a picture shows what another of its name does, first of all one in the folder that it belongs to."""
    named = dict.fromkeys(other for name in _plain_names(path) for other in others.get(name, ())[:_COMPARED])
    try:
        own = _small(path, read) if named else None
    except UserError:  # one that cannot be read is no copy of anything
        return False
    return own is not None and any(_show_the_same(own, other, read) for other in named)


def _show_the_same(one: _Small, path: str, read: Read) -> bool:
    try:
        other = _small(path, read)
    except UserError:
        return False
    pairs = ((one[0], other[0]), (one[1], other[1]), (one[0], other[1]))  # thumbnails are often squares
    return any(float(np.abs(a - b).mean()) <= _ALIKE for a, b in pairs)


def _small(path: str, read: Read) -> _Small:
    """The picture, and the square in its middle, in grey and small."""
    image = Image.fromarray(read_image(read(path), path, size=4 * _SIDE)).convert("L")
    side, (width, height) = min(image.size), image.size
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    shown = [np.asarray(one.resize((_SIDE, _SIDE)), dtype=np.float64) for one in (image, square)]
    return shown[0], shown[1]


def is_class_folder(folder: str, pictures: Mapping[str, Sequence[str]], split_of: Callable[[str], str | None]) -> bool:
    """Say whether a folder stands where class folders stand.

    Its neighbours hold pictures, the folder that they lie in holds none by itself; where that is a split, the other
    splits have a folder of the same name.

    Args:
        folder: path of the folder.
        pictures: path of every folder that holds pictures itself → their paths.
        split_of: the split that a folder's name stands for, if any.
    """
    parent, _, name = folder.rpartition("/")
    if pictures.get(parent):
        return False
    inside = f"{parent}/" if parent else ""
    tops = {one.removeprefix(inside).partition("/")[0] for one in pictures if one.startswith(inside) and one != parent}
    neighbours = {top for top in tops if top and not is_doubtful(top)}
    if not neighbours or any(map(split_of, neighbours)):
        return False
    if split_of(parent.rpartition("/")[2]) is None:
        return True
    above = parent.rpartition("/")[0]
    within = f"{above}/" if above else ""
    splits = {one.removeprefix(within).partition("/")[0] for one in pictures if one.startswith(within)}
    needed = [f"{within}{split}/{name}" for split in splits if split_of(split)]
    return all(any(one == place or one.startswith(f"{place}/") for one in pictures) for place in needed)


def by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the images among paths by the folder that they lie in.

    Example:
        >>> by_folder(["owl/1.png", "owl/a/2.png", "notes.txt"])
        {'owl': ['owl/1.png'], 'owl/a': ['owl/a/2.png']}
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        if is_image_name(path):
            found.setdefault(path.rpartition("/")[0], []).append(path)
    return found
