"""A person's own pictures for `explain` and `predict`: found, read batch by batch, the unreadable ones collected."""

import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from handful.conversions import check_real
from handful.errors import UserError
from handful.images.find import find_images
from handful.images.model_inputs import Inputs
from handful.images.reading import MAX_PIXELS, open_image
from handful.progress import tracked
from handful.text import safe_text

#: Unreadable files that are listed on the terminal; records hold all.
LISTED = 20


@dataclass(frozen=True)
class PictureBatch:
    """Some pictures, N of them.

    Attributes:
        names: path of each within the folder that was given.
        files: path of each; empty for images without files.
        images: `(N, 3, size, size)`, normalised for the model.
        shown: `(N, 3, side, side)` in [0, 1] for the eye, the same part of each picture; None unless asked for.
        labels: the true class of each where its folder has the name of a class, else None.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> inputs = Inputs(["owl", "wren"], 8, (0.5,) * 3, (0.25,) * 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "wren").mkdir()
        ...     Image.new("RGB", (20, 10)).save(f"{folder}/wren/a.png")
        ...     (batch,) = Pictures(Path(folder), inputs).batches(4, "images")
        >>> batch.images.shape, batch.labels
        (torch.Size([1, 3, 8, 8]), [1])
    """

    names: Sequence[str]
    files: Sequence[Path]
    images: Tensor
    shown: Tensor | None
    labels: Sequence[int | None]

    def file_name(self, number: int) -> str | None:
        """Path of one of the files, as text that can be written anywhere; None for an image without a file."""
        if number >= len(self.files):
            return None
        return os.fsencode(str(self.files[number])).decode("utf-8", "backslashreplace")


class Pictures:
    """The image files at a path.

    Args:
        where: an image file, or a folder that is searched, nested folders included.
        inputs: class names, image size and normalisation of the model.
        max_megapixels: larger pictures cannot be read, in millions of pixels.

    Attributes:
        files: the image files, in order.
        unreadable: name → what is wrong, of the files met so far that could not be read.

    Raises:
        UserError: nothing is there, or a folder without images.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> inputs = Inputs(["owl", "wren"], 8, (0.5,) * 3, (0.25,) * 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "wren").mkdir()
        ...     Image.new("RGB", (20, 10)).save(f"{folder}/wren/a.png")
        ...     [batch.names for batch in Pictures(Path(folder), inputs).batches(4, "images")]
        [['wren/a.png']]
    """

    def __init__(self, where: Path, inputs: Inputs, max_megapixels: float = MAX_PIXELS / 1e6) -> None:
        self.where, self.inputs = where, inputs
        self._max_pixels = int(1e6 * check_real("max_megapixels", max_megapixels, 0, open_below=True))
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
        for file in tracked(self.files, description, "images"):
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
        least, white = max(side or 0, self.inputs.image_size), self.inputs.white
        image = open_image(file, name, white=white, max_pixels=self._max_pixels, least=least)
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
