"""A person's own pictures for `explain` and `predict`: found, read batch by batch, the unreadable ones collected."""

import os
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from handful.errors import UserError
from handful.images.formats import HEAD, IMAGE_SUFFIXES, is_image_name, looks_like_image
from handful.images.inputs import Inputs
from handful.images.reading import open_image
from handful.text import safe_text

#: Unreadable files that are listed on the terminal; records hold all.
LISTED = 20


@dataclass(frozen=True)
class PictureBatch:
    """Some pictures, N of them.

    Attributes:
        names: path of each within the folder that was given.
        files: path of each.
        images: `(N, 3, size, size)`, normalised for the model.
        shown: `(N, 3, side, side)` in [0, 1] for the eye, the same part of each picture; None unless asked for.
        labels: the true class of each where its folder has the name of a class, else None.
    """

    names: Sequence[str]
    files: Sequence[Path]
    images: Tensor
    shown: Tensor | None
    labels: Sequence[int | None]


class Pictures:
    """The image files at a path.

    Args:
        where: an image file, or a folder that is searched, nested folders included.
        inputs: class names, image size and normalisation of the model.

    Attributes:
        files: the image files, in order.
        unreadable: name → what is wrong, of the files met so far that could not be read.

    Raises:
        UserError: nothing is there, or a folder without images.
    """

    def __init__(self, where: Path, inputs: Inputs) -> None:
        self.where, self.inputs = where, inputs
        self.files = find_images(where)
        self.unreadable: dict[str, str] = {}
        self._classes = {unicodedata.normalize("NFC", name): label for label, name in enumerate(inputs.class_names)}

    def batches(self, size: int, description: str, side: int | None = None) -> Iterator[PictureBatch]:
        """Yield the readable pictures in batches; a bar shows itself after a second.

        Args:
            size: pictures in a batch.
            description: beside the bar.
            side: of the pictures for the eye, at least; None for none.

        Raises:
            UserError: none of the pictures can be read.
        """
        kept: list[tuple[Path, Tensor, Tensor | None]] = []
        read = 0
        for file in tqdm(self.files, description, unit="image", delay=1, leave=False):
            try:
                kept.append((file, *self._read(file, side)))
            except UserError as error:
                self.unreadable[self.name(file)] = str(error)
            if len(kept) == size:
                read += size
                yield self._batch(kept)
                kept = []
        if kept:
            yield self._batch(kept)
        elif not read:
            first = next(iter(self.unreadable.values()))
            rest = f" Nor can the other {len(self.unreadable) - 1}." if len(self.unreadable) > 1 else ""
            raise UserError(f"--images: {first}{rest}")

    def name(self, file: Path) -> str:
        """A picture's path within the folder that was given, as text that can be written anywhere."""
        name = file.name if file == self.where else str(file.relative_to(self.where))
        return os.fsencode(name).decode("utf-8", "backslashreplace")

    def label(self, file: Path) -> int | None:
        """The class whose name the nearest folder around a picture has, the given folder included."""
        inner = () if file == self.where else file.relative_to(self.where).parts[:-1]
        for folder in (*reversed(inner), self.where.resolve().name):
            label = self._classes.get(unicodedata.normalize("NFC", folder))
            if label is not None and file != self.where:
                return label
        return None

    def warn(self) -> None:
        """List on standard error what could not be read."""
        if not self.unreadable:
            return
        count = len(self.unreadable)
        print(f"left out, as they cannot be read: {count} of {len(self.files)} image files", file=sys.stderr)
        for sentence in list(self.unreadable.values())[:LISTED]:
            print(f"  {safe_text(sentence)}", file=sys.stderr)
        if count > LISTED:
            print(f"  … and {count - LISTED} more", file=sys.stderr)
        sys.stderr.flush()

    def _read(self, file: Path, side: int | None) -> tuple[Tensor, Tensor | None]:
        name = os.fsencode(str(file)).decode("utf-8", "backslashreplace")
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UserError(f"{name} cannot be read: {error.strerror}.") from None
        image = open_image(content, name, least=max(side or 0, self.inputs.image_size))

        shown = None if side is None else self.inputs.shown(image, side)
        return self.inputs.image(image), shown

    def _batch(self, kept: Sequence[tuple[Path, Tensor, Tensor | None]]) -> PictureBatch:
        shown = [picture for _, _, picture in kept if picture is not None]
        files = [file for file, _, _ in kept]
        return PictureBatch(
            [self.name(file) for file in files],
            files,
            torch.stack([image for _, image, _ in kept]),
            torch.stack(shown) if shown else None,
            [self.label(file) for file in files],
        )


def find_images(where: Path) -> list[Path]:
    """The image files at a path: itself, or all beneath it, in order; hidden ones and clutter are left out.

    Raises:
        UserError: nothing is there, or a folder without images.
    """
    try:
        if where.is_file():
            return [where]
        missing = not where.is_dir()
    except OSError as error:  # a name too long, a loop of links
        raise UserError(f"--images: there is no file or folder {where} ({error.strerror})") from error
    if missing:
        raise UserError(f"--images: there is no file or folder {where}")
    found: list[Path] = []
    others = 0
    visited: set[str] = set()
    for place, folders, files in os.walk(where, followlinks=True):
        folders[:] = sorted(name for name in folders if not _is_clutter(name))
        real = os.path.realpath(place)
        if real in visited:  # a link that leads back
            folders.clear()
            continue
        visited.add(real)
        for name in files:
            if not _is_clutter(name):
                if is_image_name(name) or _begins_as_image(Path(place) / name):
                    found.append(Path(place) / name)
                else:
                    others += 1
    if not found:
        why = f"; its {others} files are none of {', '.join(IMAGE_SUFFIXES)}" if others else ""
        raise UserError(f"--images: there is no image in {where}{why}")
    return sorted(found)


def _begins_as_image(path: Path) -> bool:
    """Whether a file without the name of an image has the content of one."""
    try:
        with path.open("rb") as file:
            return looks_like_image(file.read(HEAD))
    except OSError:
        return False  # nothing says that it was meant


def _is_clutter(name: str) -> bool:
    """Whether a file or folder is what systems leave beside pictures."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir", "#recycle", "Thumbs.db", "desktop.ini", "lost+found")


def said_accuracy(labels: Sequence[int | None], predicted: Sequence[int]) -> Mapping[str, float]:
    """Accuracy and balanced accuracy in per cent of the pictures whose class is known, and their number.

    Example:
        >>> said_accuracy([0, 1, None], [0, 0, 1])
        {'images': 2, 'accuracy': 50.0, 'balanced_accuracy': 50.0}
    """
    pairs = [(label, found) for label, found in zip(labels, predicted, strict=True) if label is not None]
    if not pairs:
        return {}
    by_class: dict[int, list[bool]] = {}
    for label, found in pairs:
        by_class.setdefault(label, []).append(label == found)
    shares = [sum(right) / len(right) for right in by_class.values()]
    return {
        "images": len(pairs),
        "accuracy": 100 * sum(label == found for label, found in pairs) / len(pairs),
        "balanced_accuracy": 100 * sum(shares) / len(shares),
    }
