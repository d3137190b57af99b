"""The embedded data set: toy birds drawn by code. No download, no licence."""

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import __version__ as pillow_version
from torch import Tensor

import handful.birds
from datamodules.augmentation import AugmentationName
from datamodules.base import HandfulDataModule
from datamodules.images import PackedImages, Split, is_packed, pack, unpack
from handful.annotations import Annotations, BirdAnnotations
from handful.birds import PART_NAMES, Rendering, Scene, ToyBirdsDataset, render
from handful.errors import UserError
from handful.progress import ProgressBar

SplitName = Literal["train", "val", "test"]

_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class ToyBirds(HandfulDataModule):
    """Toy birds with parts, masks and attributes (`handful.birds`), drawn once and kept in the cache.

    Args:
        n_classes: number of classes.
        images_per_class: training images of each class.
        val_images_per_class: validation images of each class; 0 for none.
        test_images_per_class: test images of each class.
        difficulty: "easy", "medium" or "hard": how few parts tell classes apart and how much all else varies.
        deciding_parts: parts that may tell classes apart, all by default; the others vary from image to image.
        image_size: side of the images in pixels, at least 16.
        batch_size: see `HandfulDataModule`, as all below.
        eval_batch_size: see there.
        num_workers: see there.
        normalisation: see there.
        augmentation: see there.
        seed: also chooses classes and images.
        cache_dir: see there.
    """

    def __init__(
        self,
        n_classes: int = 10,
        images_per_class: int = 100,
        val_images_per_class: int = 20,
        test_images_per_class: int = 50,
        difficulty: Literal["easy", "medium", "hard"] = "easy",
        deciding_parts: list[str] | None = None,
        image_size: int = 64,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        num_workers: int | None = None,
        normalisation: Literal["compute", "imagenet", "backbone"] | dict[str, list[float]] = "compute",
        augmentation: AugmentationName = "crop_flip",
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(
            image_size, batch_size, eval_batch_size, num_workers, normalisation, augmentation, seed, cache_dir
        )
        for name, value, least in (
            ("images_per_class", images_per_class, 1),
            ("val_images_per_class", val_images_per_class, 0),
            ("test_images_per_class", test_images_per_class, 1),
        ):
            if value < least:
                raise UserError(f"data.{name} must be at least {least}, not {value}.")
        images = {"train": images_per_class, "val": val_images_per_class, "test": test_images_per_class}
        self.birds: dict[str, ToyBirdsDataset] = {
            split: ToyBirdsDataset(
                split, n_classes, images[split], image_size, seed, difficulty, deciding_parts or PART_NAMES
            )
            for split in _SPLITS
            if images[split] or split != "val"
        }
        options = {"classes": n_classes, "images": images, "difficulty": difficulty, "parts": deciding_parts}
        self._options = {**options, "size": image_size, "seed": seed}

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, made of the looks of their parts."""
        return self.birds["train"].classes.names

    @cached_property
    def _fingerprint(self) -> str:
        # the drawing code is part of what the images depend on
        files = sorted(Path(handful.birds.__file__).parent.rglob("*.py"))
        code = [_without_words(file.read_text(encoding="utf-8")) for file in files]
        content = json.dumps([self._options, code, np.__version__, pillow_version])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def fingerprint(self) -> str:
        """Return a short text that changes with the arguments and with the drawing code."""
        return self._fingerprint

    def load_splits(self) -> dict[str, Split]:
        """Return the splits, drawn now or taken from the cache."""
        key = f"toy-birds-{self.fingerprint()}"

        def make(draft: Path) -> None:
            for split, birds in self.birds.items():
                pack(self._drawn(birds), draft, split)

        entry = self.cache.entry(key, make, lambda folder: all(is_packed(folder, split) for split in self.birds))
        return {split: self._split(split, unpack(entry, split)) for split in self.birds}

    def _split(self, split: str, images: PackedImages) -> Split:
        birds = self.birds[split]
        return Split(images, range(len(birds)), birds.labels, [f"{split}/{i:06d}" for i in range(len(birds))])

    @staticmethod
    def _drawn(birds: ToyBirdsDataset) -> Iterator[npt.NDArray[np.uint8]]:
        with ProgressBar(len(birds), f"drawing toy birds ({birds.split})") as bar:
            for index in range(len(birds)):
                yield birds.rendering(index).image
                bar.update()

    def annotations(self, split: str) -> Annotations:
        """Return parts, masks and attributes of the birds of a split, exact because they were drawn."""
        birds = BirdAnnotations(self.birds[split])
        return Annotations(birds.attributes, birds, birds, birds)

    # -- what only drawn data can tell ----------------------------------------------------------------------------

    def dataset_scene(self, split: SplitName, index: int) -> Scene:
        """Return the scene that image `index` of the split was drawn from."""
        return self.birds[split].scene(index)

    def rendering(
        self,
        split: SplitName,
        index: int,
        remove: tuple[str, ...] = (),
        replace: dict[str, int] | None = None,
    ) -> Rendering:
        """Draw an image of the split again, with masks, with parts removed or replaced; see `handful.birds.render`."""
        return render(self.dataset_scene(split, index), self.image_size, remove, replace)

    def masks(self, split: SplitName, index: int) -> npt.NDArray[np.bool_]:
        """Return bool `(parts, size, size)`: the pixels of the image that show each part, as in `PART_NAMES`."""
        return self.birds[split].masks(index)

    def attributes(self, split: SplitName, index: int) -> Tensor:
        """Return the attribute vector of an image; see `handful.birds.attribute_names`."""
        return self.birds[split].attributes(index)


@cache
def _without_words(source: str) -> str:
    """Python code without its docstrings and comments, which change nothing that is drawn."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
