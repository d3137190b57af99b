"""Images that a split is made of: decoded ones packed into one array on disk, or files decoded when asked for."""

import hashlib
import json
import mmap
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.file_tree import digest
from handful.errors import UserError


class ImagePixels(Protocol):
    """Images by number: uint8 `(3, h, w)`, the shorter side as long as the data module's `image_size`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor: ...


@dataclass(frozen=True)
class Split:
    """The images of a split with their labels (int64 `(N,)`) and names; item i is `images[indices[i]]`."""

    images: ImagePixels
    indices: Sequence[int]
    labels: Tensor
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.indices)

    def pixels(self, index: int) -> Tensor:
        """Return image `index` of the split, uint8 `(3, h, w)`."""
        return self.images[self.indices[index]]


def names_digest(split: Split) -> str:
    """Return a digest of the names of a split's files with their labels, the same in whatever folder or archive.

    Images that are drawn or packed have their numbers for names.
    """
    files = (unicodedata.normalize("NFC", name.rsplit("/", 1)[-1]) for name in split.names)
    return digest(str(len(split)), *sorted(map("{} {}".format, files, split.labels.tolist())))


class CheckSums:
    """CRC-32 of the pixels of every image, compared when an image is read for the first time.

    Processes that are forked from the one that opened the images share what has been compared. It takes 0.05 ms for an
    image of 224 × 298 pixels, once.

    Args:
        folder: of the cache, for the sentence.
        name: of the split.
        count: images.
    """

    def __init__(self, folder: Path, name: str, count: int) -> None:
        self._folder, self._name = folder, name
        self._expected = np.fromfile(folder / f"{name}.crc32", dtype="<u4").tolist()
        self._compared = mmap.mmap(-1, max(1, count))

    def __getstate__(self) -> dict[str, object]:
        """For a process that is not forked; it compares again."""
        return {**self.__dict__, "_compared": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._compared = mmap.mmap(-1, max(1, len(self._expected)))

    def check(self, index: int, pixels: Tensor) -> None:
        """Compare an image that has not been compared.

        Raises:
            UserError: its pixels are others than were written; the next run makes the entry again.
        """
        if self._compared[index]:
            return
        if zlib.crc32(pixels.numpy().data) != self._expected[index]:
            remedy = (
                "Give the same command again, and it is made again; if that does not help, remove the folder, and look "
                "after the disk."
            )
            try:
                (self._folder / f"{self._name}.shapes.json").unlink(missing_ok=True)
            except OSError as error:
                remedy = f"It cannot be written ({error.strerror}): choose another place with data.cache_dir."
            raise UserError(
                f"The image cache {self._folder} is damaged: image {index} of {self._name} is not as it was written. "
                f"{remedy}"
            )
        self._compared[index] = 1


class PackedImages:
    """Decoded images one after another in one uint8 array.

    Args:
        pixels: uint8 `(sum of 3·h·w,)`.
        heights: of the images, in pixels.
        widths: of the images, in pixels.
        sums: check sums of the images, where there are any.
    """

    def __init__(
        self, pixels: Tensor, heights: Sequence[int], widths: Sequence[int], sums: CheckSums | None = None
    ) -> None:
        self._pixels, self._sums = pixels, sums
        self._heights, self._widths = heights, widths
        sizes = 3 * np.asarray(heights, dtype=np.int64) * np.asarray(widths, dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()

    def __len__(self) -> int:
        return len(self._heights)

    def __getitem__(self, index: int) -> Tensor:
        pixels = self._pixels[self._starts[index] : self._starts[index + 1]]
        if self._sums is not None:
            self._sums.check(index, pixels)
        return pixels.view(3, self._heights[index], self._widths[index])


def pack(images: Iterable[np.ndarray], folder: Path, name: str) -> None:
    """Write the images, uint8 `(h, w, 3)`, to `folder` one by one; `unpack` reads them."""
    heights, widths, sums = [], [], []
    with (folder / f"{name}.pixels").open("wb") as file:
        for image in images:
            heights.append(image.shape[0])
            widths.append(image.shape[1])
            pixels = np.ascontiguousarray(image.transpose(2, 0, 1)).data
            file.write(pixels)
            sums.append(zlib.crc32(pixels))
    np.array(sums, dtype="<u4").tofile(folder / f"{name}.crc32")
    (folder / f"{name}.shapes.json").write_text(json.dumps([heights, widths]))


def is_packed(folder: Path, name: str, count: int | None = None) -> bool:
    """Whether a folder holds what `pack` wrote: sizes, as many pixels, and all check sums or, of old versions, none.

    Args:
        folder: that `pack` wrote to.
        name: of the split.
        count: how many images there must be, where it is known.
    """
    try:
        heights, widths = json.loads((folder / f"{name}.shapes.json").read_text())
        pixels = sum(3 * height * width for height, width in zip(heights, widths, strict=True))
        sums = folder / f"{name}.crc32"
        complete = not sums.exists() or sums.stat().st_size == 4 * len(heights)
        complete = complete and count in (None, len(heights))
        return complete and pixels == (folder / f"{name}.pixels").stat().st_size
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def unpack(folder: Path, name: str) -> PackedImages:
    """Return the images that `pack` wrote, mapped into memory: processes on one machine share them."""
    heights, widths = json.loads((folder / f"{name}.shapes.json").read_text())
    if not heights:
        return PackedImages(torch.empty(0, dtype=torch.uint8), [], [])
    # "c": writable in memory, as torch wants it, while the file is unchanged
    mapped = np.memmap(folder / f"{name}.pixels", dtype=np.uint8, mode="c")
    sums = CheckSums(folder, name, len(heights)) if (folder / f"{name}.crc32").exists() else None
    return PackedImages(torch.from_numpy(mapped), heights, widths, sums)


def pixel_digest(image: Image.Image) -> bytes:
    """Return 16 bytes that two images share if and (all but certainly) only if size, mode and all pixels are equal."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    for top in range(0, image.height, 256):  # in strips: a copy of all pixels of a large photograph is large
        digest.update(image.crop((0, top, image.width, min(top + 256, image.height))).tobytes())
    return digest.digest()


def batches(count: int, size: int = 256) -> Iterator[range]:
    """Yield the numbers below `count` in ranges of at most `size`."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
