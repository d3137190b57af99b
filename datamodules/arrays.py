"""Data sets of small images that are distributed as arrays: CIFAR's and STL-10."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from datamodules.base import HandfulDataModule
from datamodules.file_tree import digest
from datamodules.images import Split, is_packed, pack, unpack
from datamodules.locate import Files, locate, open_published
from datamodules.splitting import divide
from handful.errors import UserError
from handful.images import resize
from handful.text import safe_text

#: Images, uint8 `(N, h, w, 3)`, and labels from 0, `(N,)`.
Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


class ArrayData(HandfulDataModule):
    """Images in arrays, with an official test split; validation images are drawn from the training ones.

    Args:
        root: the unpacked folder, one above it, or the archive as downloaded.
        complete: refuse a copy without the official number of images; false takes a part of it.
        val_fraction: share of each class's training images to validate on; 0 for none.
        image_size: side in pixels that the images are resized to.
        **kwargs: see `HandfulDataModule`.

    Raises:
        UserError: when the images are first asked for: with what to download, and where to put it.
    """

    title: ClassVar[str] = ""
    download: ClassVar[str] = ""
    #: The official number of images by split.
    official: ClassVar[Mapping[str, int]] = {}

    def __init__(
        self, root: str, complete: bool = True, val_fraction: float = 0.0, image_size: int = 32, **kwargs: Any
    ) -> None:
        super().__init__(image_size=image_size, **kwargs)
        if not 0 <= val_fraction < 1:
            raise UserError(f"data.val_fraction must be at least 0 and below 1, not {val_fraction}.")
        self.root = Path(root).expanduser()
        self.complete, self.val_fraction = complete, val_fraction
        self.seed_draws_images = val_fraction > 0

    @property
    @abstractmethod
    def forms(self) -> Mapping[str, tuple[str, ...]]:
        """By form of distribution, the files that it cannot do without."""

    @abstractmethod
    def arrays(self, files: Files, form: str) -> dict[str, Arrays]:
        """Read the splits of a form."""

    @abstractmethod
    def names(self, files: Files, form: str) -> list[str]:
        """Read the names of the classes."""

    @cached_property
    def found(self) -> tuple[Files, str]:
        """The data set's files, and the form that they are in."""
        advice = f"Download {self.download}, and give the unpacked folder as data.root."
        tree = open_published(self.root, self.cache, advice)
        ends = {path.rpartition("/")[2] for path in tree.files()}
        form = max(self.forms, key=lambda form: len(ends.intersection(self.forms[form])))
        return locate(tree, self.root, self.title, self.forms[form], advice), form

    @cached_property
    def _class_names(self) -> list[str]:
        return self.names(*self.found)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, by label."""
        return self._class_names

    def fingerprint(self) -> str:
        """Return a short text that changes with the files and the drawn validation images."""
        return digest(type(self).__name__, self.found[0].tree.fingerprint(), str(self.val_fraction), str(self.seed),
                      *self.class_names)  # fmt: skip

    def load_splits(self) -> dict[str, Split]:
        """Return the splits, checked against the official numbers; images of another size are resized."""

        def make(draft: Path) -> None:
            for split, (images, labels) in self._checked().items():
                pack((resize(Image.fromarray(image), self.image_size) for image in images), draft, split)
                np.save(draft / f"{split}.labels.npy", labels.astype(np.int64))

        key = f"arrays-{digest(self.fingerprint(), str(self.image_size), str(self.complete))}"
        def is_whole(folder: Path) -> bool:
            return all(is_packed(folder, split) and _labels(folder, split) is not None for split in ("train", "test"))

        entry = self.cache.entry(key, make, is_whole)
        splits = {split: self._split(entry, split) for split in ("train", "test")}
        if self.val_fraction:
            splits["train"], splits["val"] = divide(splits["train"], self.val_fraction, self.seed)
        counts = {"train": "training", "val": "validation", "test": "test"}
        parts = ", ".join(f"{len(splits[s]):,} {word}" for s, word in counts.items() if s in splits)
        self.report = f"Read {self.title} in {safe_text(self.found[0].tree.root)}: {parts} images."
        return splits

    def _checked(self) -> dict[str, Arrays]:
        files, form = self.found
        arrays = self.arrays(files, form)
        counts = {split: len(labels) for split, (_, labels) in arrays.items()}
        if self.complete and counts != dict(self.official):
            have, need = (", ".join(f"{n:,} {split}" for split, n in c.items()) for c in (counts, self.official))
            raise UserError(
                f"{files.shown()} has {have} images, where {self.title} has {need}: download {self.download} again, or "
                "set data.complete to false for a part of it."
            )
        for split, (images, labels) in arrays.items():
            if len(images) != len(labels) or not len(images):
                raise UserError(f"{files.shown()} has {len(images):,} {split} images and {len(labels):,} labels.")
            if labels.min() < 0 or labels.max() >= len(self.class_names):
                raise UserError(f"{files.shown()} has {split} labels outside its {len(self.class_names)} classes.")
        return arrays

    @staticmethod
    def _split(entry: Path, split: str) -> Split:
        labels = _labels(entry, split)
        assert labels is not None
        return Split(unpack(entry, split), range(len(labels)), labels, [f"{split}/{i:05d}" for i in range(len(labels))])


def _labels(folder: Path, split: str) -> Tensor | None:
    """The kept labels of a split, int64 `(N,)`; None where the file is damaged."""
    try:
        labels = np.load(folder / f"{split}.labels.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return torch.from_numpy(labels) if labels.dtype == np.int64 and labels.ndim == 1 else None


def records(content: bytes, size: int, shown: str) -> npt.NDArray[np.uint8]:
    """Return a file of records of equal size, uint8 `(N, size)`.

    Raises:
        UserError: the last one is cut off: the file is truncated.
    """
    if len(content) % size or not content:
        raise UserError(f"{shown} is truncated: its {len(content):,} bytes are not whole records of {size:,}.")
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
