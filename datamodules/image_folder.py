"""A person's own images: a folder or a zip archive with `train/<class>/…` and `test/<class>/…`."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datamodules.augmentation import AugmentationName
from datamodules.base import HandfulDataModule
from datamodules.file_tree import FileTree, open_tree
from datamodules.images import Images, Split, decoded, pack, unpack
from datamodules.progress import progress_bar
from handful.errors import UserError

IMAGE_SUFFIXES: tuple[str, ...] = (
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip

_SPLITS = ("train", "val", "test")
# With cache "auto", decoded images up to so many bytes are kept.
_CACHE_LIMIT = 2**30


class ImageFolder(HandfulDataModule):
    """Images by class: `root/train/<class>/…`, `root/test/<class>/…` and, optionally, `root/val/<class>/…`.

    Without `val/`, a part of the training images is taken from every class. All images are decoded once to check them;
    small ones are kept decoded in the cache, so that later runs start at once. Images are resized so that their
    shorter side is `image_size`, and cropped to a square.

    Args:
        root: the folder, or a `.zip` archive of it, which is read where it lies.
        val_fraction: share of each class's training images to validate on where there is no `val/`; 0 for none.
        cache: keep decoded images: true, false or "auto" (up to 1 GiB).
        image_size: side of the images in pixels.
        batch_size: see `HandfulDataModule`, as all below.
        eval_batch_size: see there.
        num_workers: see there.
        normalisation: see there.
        augmentation: see there.
        seed: also chooses the validation images.
        cache_dir: see there.

    Raises:
        UserError: when the images are first asked for: no such folder, an unreadable or truncated image, a class
            without images, classes that differ between splits, fewer than two classes, the same image in two splits.
    """

    def __init__(
        self,
        root: str,
        val_fraction: float = 0.1,
        cache: bool | Literal["auto"] = "auto",
        image_size: int = 224,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        normalisation: Literal["compute", "imagenet", "backbone"] | dict[str, list[float]] = "compute",
        augmentation: AugmentationName = "crop_flip",
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(
            image_size, batch_size, eval_batch_size, num_workers, normalisation, augmentation, seed, cache_dir
        )
        if not 0 <= val_fraction < 1:
            raise UserError(f"data.val_fraction must be at least 0 and below 1, not {val_fraction}.")
        self.root = Path(root).expanduser()
        self.val_fraction = val_fraction
        self.keep = cache

    @cached_property
    def listing(self) -> "Listing":
        """The files of all splits, found in `root`."""
        return Listing(open_tree(self.root))

    @property
    def class_names(self) -> list[str]:
        """Names of the class folders, sorted."""
        return self.listing.class_names

    def fingerprint(self) -> str:
        """Return a short text that changes with the files and with what the validation split is drawn from."""
        return f"{self.listing.tree.fingerprint()}-{self.val_fraction}-{self.seed}"

    def load_splits(self) -> dict[str, Split]:
        """Return the splits; decodes and checks all images unless the cache knows them."""
        images = self._packed() if self._keeps_decoded() else self._files()
        splits = {split: self._split(split, images[split]) for split in self.listing.files}
        if "val" not in splits and self.val_fraction > 0:
            splits["train"], splits["val"] = divide(splits["train"], self.val_fraction, self.seed)
            if not len(splits["val"]):
                raise UserError(
                    f"data.val_fraction {self.val_fraction} leaves no validation image of any class in {self.root}: "
                    "raise it, or set it to 0 for none."
                )
        return splits

    def _split(self, split: str, images: Images) -> Split:
        files = self.listing.files[split]
        labels = torch.tensor([label for _, label in files], dtype=torch.int64)
        return Split(images, range(len(files)), labels, [path for path, _ in files])

    def _keeps_decoded(self) -> bool:
        # photographs are seldom narrower than 3:4
        bytes_needed = self.listing.count * 3 * self.image_size**2 * 4 // 3
        return bytes_needed <= _CACHE_LIMIT if self.keep == "auto" else self.keep

    def _packed(self) -> dict[str, Images]:
        key = f"images-{self.listing.tree.fingerprint()}-{self.image_size}"
        entry = self.cache.find(key)
        if entry is None:
            with self.cache.building(key) as draft:
                reader = Reader(self.listing, self.image_size)
                for split in self.listing.files:
                    pack(reader.images(split), draft, split)
                reader.close()
            entry = self.cache.folder / key
        return {split: unpack(entry, split) for split in self.listing.files}

    def _files(self) -> dict[str, Images]:
        key = f"checked-{self.listing.tree.fingerprint()}"
        if self.cache.find(key) is None:
            with self.cache.building(key) as draft:
                reader = Reader(self.listing)
                for split in self.listing.files:
                    for _ in reader.images(split):
                        pass
                reader.close()
                (draft / "root.json").write_text(json.dumps(str(self.root)))
        return {split: ImageFiles(self.listing, split, self.image_size) for split in self.listing.files}


class Listing:
    """Which files belong to which split and class.

    Attributes:
        tree: where the files are.
        class_names: names of the classes, sorted.
        files: (path, label) of every image, by split, sorted by class and name.

    Raises:
        UserError: a missing split, fewer than two classes, a class without images, classes that differ.
    """

    def __init__(self, tree: FileTree) -> None:
        self.tree = tree
        found: dict[str, dict[str, list[str]]] = {}
        for folder in tree.folders():
            split, _, below = folder.partition("/")
            if split in _SPLITS:
                classes = found.setdefault(split, {})
                if below:
                    classes.setdefault(below.split("/")[0], [])
        for path in tree.files():
            split, *inside = path.split("/")
            if split in found and len(inside) > 1 and path.lower().endswith(IMAGE_SUFFIXES):
                found[split][inside[0]].append(path)
        self._check(found)
        self.class_names = sorted(found["train"])
        self.files = {
            split: [(path, label) for label, name in enumerate(self.class_names) for path in found[split][name]]
            for split in _SPLITS
            if split in found
        }

    @property
    def count(self) -> int:
        """Number of images in all splits."""
        return sum(map(len, self.files.values()))

    def _check(self, found: dict[str, dict[str, list[str]]]) -> None:
        root = self.tree.root
        for split in ("train", "test"):
            if split not in found:
                raise UserError(f"data.root {root} has no folder {split}/ with a folder of images for each class.")
        if len(found["train"]) < 2:
            raise UserError(f"{root / 'train'} has {len(found['train'])} class folders; at least two are needed.")
        for split, classes in found.items():
            for name in sorted(set(found["train"]) ^ set(classes)):
                here, there = (split, "train") if name in classes else ("train", split)
                raise UserError(f"The class {name!r} is in {root / here}, but not in {root / there}.")
            for name, files in sorted(classes.items()):
                if not files:
                    raise UserError(f"The class folder {root / split / name} has no image in it.")


class Reader:
    """Reads every image of a listing once, and notices one that stands in two splits.

    Args:
        listing: the files.
        size: length of the shorter side to resize to; None leaves the size.

    Raises:
        UserError: an image that cannot be read, or a file whose content stands in another split too.
    """

    def __init__(self, listing: Listing, size: int | None = None) -> None:
        self._listing, self._size = listing, size
        self._seen: dict[bytes, tuple[str, str]] = {}
        self._progress = progress_bar(listing.count, "Reading images")

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the decoded images of a split, uint8 `(h, w, 3)`."""
        for path, _ in self._listing.files[split]:
            content = self._listing.tree.read(path)
            self._refuse_repeated(split, path, content)
            yield decoded(content, str(self._listing.tree.root / path), self._size)
            self._progress.update()

    def close(self) -> None:
        """Take the progress bar away."""
        self._progress.close()

    def _refuse_repeated(self, split: str, path: str, content: bytes) -> None:
        first_split, first = self._seen.setdefault(hashlib.blake2b(content, digest_size=16).digest(), (split, path))
        if first_split != split:
            root = self._listing.tree.root
            raise UserError(f"The same image is in two splits: {root / first} and {root / path}.")


class ImageFiles:
    """The images of a split, decoded each time they are asked for."""

    def __init__(self, listing: Listing, split: str, size: int) -> None:
        self._tree, self._size = listing.tree, size
        self._paths = [path for path, _ in listing.files[split]]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        path = self._paths[index]
        image = decoded(self._tree.read(path), str(self._tree.root / path), self._size)
        return torch.from_numpy(image.transpose(2, 0, 1).copy())


def divide(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Take a seeded share of every class out of a split.

    Each class gives `fraction` of its images, rounded, but always keeps one.

    Returns:
        What is left and what was taken, both in the order of `split`.
    """
    generator = torch.Generator().manual_seed(seed)
    taken = torch.zeros(len(split), dtype=torch.bool)
    for label in range(int(split.labels.max()) + 1):
        members = torch.nonzero(split.labels == label).flatten()
        count = min(round(fraction * len(members)), len(members) - 1)
        taken[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return _chosen(split, torch.nonzero(~taken).flatten()), _chosen(split, torch.nonzero(taken).flatten())


def _chosen(split: Split, positions: Tensor) -> Split:
    numbers: Sequence[int] = positions.tolist()
    names = [split.names[number] for number in numbers]
    return Split(split.images, [split.indices[number] for number in numbers], split.labels[positions], names)
