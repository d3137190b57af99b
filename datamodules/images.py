"""Images that a split is made of: decoded ones packed into one array on disk, or files decoded when asked for."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor


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


class PackedImages:
    """Decoded images one after another in one uint8 array.

    Args:
        pixels: uint8 `(sum of 3·h·w,)`.
        heights: of the images, in pixels.
        widths: of the images, in pixels.
    """

    def __init__(self, pixels: Tensor, heights: Sequence[int], widths: Sequence[int]) -> None:
        self._pixels = pixels
        self._heights, self._widths = heights, widths
        sizes = 3 * np.asarray(heights, dtype=np.int64) * np.asarray(widths, dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()

    def __len__(self) -> int:
        return len(self._heights)

    def __getitem__(self, index: int) -> Tensor:
        pixels = self._pixels[self._starts[index] : self._starts[index + 1]]
        return pixels.view(3, self._heights[index], self._widths[index])


def pack(images: Iterable[np.ndarray], folder: Path, name: str) -> None:
    """Write the images, uint8 `(h, w, 3)`, to `folder` one by one; `unpack` reads them."""
    heights, widths = [], []
    with (folder / f"{name}.pixels").open("wb") as file:
        for image in images:
            heights.append(image.shape[0])
            widths.append(image.shape[1])
            file.write(np.ascontiguousarray(image.transpose(2, 0, 1)).data)
    (folder / f"{name}.shapes.json").write_text(json.dumps([heights, widths]))


def is_packed(folder: Path, name: str) -> bool:
    """Whether a folder holds what `pack` wrote: a list of sizes, and a file of as many pixels."""
    try:
        heights, widths = json.loads((folder / f"{name}.shapes.json").read_text())
        pixels = sum(3 * height * width for height, width in zip(heights, widths, strict=True))
        return pixels == (folder / f"{name}.pixels").stat().st_size
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def unpack(folder: Path, name: str) -> PackedImages:
    """Return the images that `pack` wrote, mapped into memory: processes on one machine share them."""
    heights, widths = json.loads((folder / f"{name}.shapes.json").read_text())
    if not heights:
        return PackedImages(torch.empty(0, dtype=torch.uint8), [], [])
    # "c": writable in memory, as torch wants it, while the file is unchanged
    mapped = np.memmap(folder / f"{name}.pixels", dtype=np.uint8, mode="c")
    return PackedImages(torch.from_numpy(mapped), heights, widths)


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
