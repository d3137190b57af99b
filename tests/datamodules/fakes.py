"""Data sets in their real form on disk, and a data module over numbered images."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datamodules.base import HandfulDataModule
from datamodules.images import PackedImages, Split


class Numbered(HandfulDataModule):
    """Image i of every split is noise, but for the number i in its first pixel (`count` training images)."""

    def __init__(self, count: int = 23, side: int = 8, **options):
        options = {"image_size": 8, "batch_size": 4, "normalisation": {"mean": [0, 0, 0], "std": [1, 1, 1]}} | options
        super().__init__(**options)
        self.counts = {"train": count, "val": 7, "test": 11}
        self.side = side

    @property
    def class_names(self):
        return ["even", "odd"]

    def fingerprint(self):
        return "numbered"

    def load_splits(self):
        splits = {}
        for name, count in self.counts.items():
            noise = torch.Generator().manual_seed(count)
            pixels = torch.randint(0, 256, (count, 3, self.side, self.side), dtype=torch.uint8, generator=noise)
            pixels[:, 0, 0, 0] = torch.arange(count)
            images = PackedImages(pixels.flatten(), [self.side] * count, [self.side] * count)
            splits[name] = Split(images, range(count), torch.arange(count) % 2, [str(i) for i in range(count)])
        return splits


def numbers(images: torch.Tensor) -> list[int]:
    """The numbers of `Numbered` images that were not augmented."""
    return (images[:, 0, 0, 0] * 255).round().int().tolist()


def write_images(
    root: Path, counts: dict[str, dict[str, int]], size: tuple[int, int] = (10, 10), suffix=".png"
) -> Path:
    """Write `counts[split][class]` different noise images as files under `root`."""
    rng = np.random.default_rng(0)
    for split, classes in counts.items():
        for name, count in classes.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                noise = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(noise).save(folder / f"{i:03d}{suffix}")
    return root


def zipped(root: Path, archive: Path, top: str = "") -> Path:
    """Pack a folder into a zip archive, below a folder `top` if given."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(root.rglob("*")):
            file.write(path, Path(top) / path.relative_to(root))
    return archive
