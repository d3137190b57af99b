"""A person's own images: a folder or a zip archive with `train/<class>/…` and `test/<class>/…`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datamodules.augmentation import AugmentationName
from datamodules.base import HandfulDataModule
from datamodules.file_tree import FileTree, contents_of, open_tree
from datamodules.images import Images, Split, pack, pixel_digest, unpack
from datamodules.progress import progress_bar
from handful.errors import UserError
from handful.images import IMAGE_SUFFIXES, open_image, read_image, resize

_SPLITS = ("train", "val", "test")
# With cache "auto", decoded images up to so many bytes are kept.
_CACHE_LIMIT = 2**30
# Part of every cache key: raised when what is checked, kept or split changes, so that older entries are not used.
_VERSION = 3
_REPEATS = "repeats.json"


class ImageFolder(HandfulDataModule):
    """Images by class: `root/train/<class>/…`, `root/test/<class>/…` and, optionally, `root/val/<class>/…`.

    Without `val/`, a part of the training images is taken from every class; equal ones stay on one side. All images are
    decoded once to check them; small ones are kept decoded in the cache, so that later runs start at once. Images are
    resized so that their shorter side is `image_size`, and cropped to a square.

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
            without images, classes that differ between splits, fewer than two classes, the same image in two splits or
            in two classes, be it in files that differ: decoded pixels are compared.
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
        return f"{self._checked_key}-{self.val_fraction}-{self.seed}"

    def contents(self) -> str:
        """Return a short text that a copy of the images at another place, or an archive of them, shares."""
        paths = [path for files in self.listing.files.values() for path, _ in files]
        return f"{_VERSION}-{contents_of(self.listing.tree, sorted(paths))}"

    def load_splits(self) -> dict[str, Split]:
        """Return the splits; decodes and checks all images unless the cache knows them."""
        images, repeats = self._packed() if self._keeps_decoded() else self._files()
        splits = {split: self._split(split, images[split]) for split in self.listing.files}
        if "val" not in splits and self.val_fraction > 0:
            splits["train"], splits["val"] = divide(splits["train"], self.val_fraction, self.seed, repeats)
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

    @property
    def _checked_key(self) -> str:
        return f"{_VERSION}-{self.listing.tree.fingerprint()}"

    def _packed(self) -> tuple[dict[str, Images], dict[int, int]]:
        key = f"images-{self._checked_key}-{self.image_size}"
        entry = self.cache.find(key)
        if entry is None:
            with self.cache.building(key) as draft:
                reader = Reader(self.listing, self.image_size)
                for split in self.listing.files:
                    pack(reader.images(split), draft, split)
                reader.close(draft)
            entry = self.cache.folder / key
        return {split: unpack(entry, split) for split in self.listing.files}, _repeats(entry)

    def _files(self) -> tuple[dict[str, Images], dict[int, int]]:
        key = f"checked-{self._checked_key}"
        if self.cache.find(key) is None:
            with self.cache.building(key) as draft:
                reader = Reader(self.listing)
                for split in self.listing.files:
                    for _ in reader.images(split):
                        pass
                reader.close(draft)
                (draft / "root.json").write_text(json.dumps(str(self.root)))
        images: dict[str, Images] = {}
        for split in self.listing.files:
            images[split] = ImageFiles(self.listing, split, self.image_size)
        return images, _repeats(self.cache.folder / key)


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
    """Reads every image of a listing once, and notices those that are there more than once, pixel for pixel.

    Args:
        listing: the files.
        size: length of the shorter side to resize to; None leaves the size.

    Raises:
        UserError: an image that cannot be read, or one that stands in another split or class too.
    """

    def __init__(self, listing: Listing, size: int | None = None) -> None:
        self._listing, self._size = listing, size
        self._seen: dict[bytes, tuple[str, int]] = {}
        self._repeats: list[tuple[int, int]] = []
        self._progress = progress_bar(listing.count, "Reading images")

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the decoded images of a split, uint8 `(h, w, 3)`."""
        for number, (path, _) in enumerate(self._listing.files[split]):
            image = open_image(self._listing.tree.read(path), str(self._listing.tree.root / path))
            # before resizing, which can make different images equal
            self._compare(split, number, pixel_digest(image))
            yield resize(image, self._size)
            self._progress.update()

    def close(self, folder: Path) -> None:
        """Write to `folder` which training images repeat which, and take the progress bar away."""
        (folder / _REPEATS).write_text(json.dumps(self._repeats))
        self._progress.close()

    def _compare(self, split: str, number: int, digest: bytes) -> None:
        first_split, first = self._seen.setdefault(digest, (split, number))
        if (first_split, first) == (split, number):
            return
        root, files = self._listing.tree.root, self._listing.files
        (first_path, first_label), (path, label) = files[first_split][first], files[split][number]
        for what, differ in (("splits", first_split != split), ("classes", first_label != label)):
            if differ:
                raise UserError(
                    f"The same image is in two {what}: {root / first_path} and {root / path} have equal pixels."
                )
        if split == "train":
            self._repeats.append((number, first))


def _repeats(entry: Path) -> dict[int, int]:
    """Return what a `Reader` wrote: the number of the first equal image, by the number of one that repeats it."""
    return dict(json.loads((entry / _REPEATS).read_text()))


class ImageFiles:
    """The images of a split, decoded each time they are asked for."""

    def __init__(self, listing: Listing, split: str, size: int) -> None:
        self._tree, self._size = listing.tree, size
        self._paths = [path for path, _ in listing.files[split]]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        path = self._paths[index]
        image = read_image(self._tree.read(path), str(self._tree.root / path), self._size)
        return torch.from_numpy(image.transpose(2, 0, 1).copy())


def divide(split: Split, fraction: float, seed: int, repeats: Mapping[int, int] | None = None) -> tuple[Split, Split]:
    """Take a seeded share of every class out of a split.

    Each class gives `fraction` of its images, rounded, but always keeps one. Equal images are taken together or not
    at all, so that a class may give fewer.

    Args:
        split: what to divide.
        fraction: share to take, in [0, 1).
        seed: chooses the images.
        repeats: by position in `split`, the position of the first image equal to it, which has the same label.

    Returns:
        What is left and what was taken, both in the order of `split`.
    """
    equal = {position: [position] for position in range(len(split))}
    for position, first in (repeats or {}).items():
        equal[first] += equal.pop(position)
    generator = torch.Generator().manual_seed(seed)
    taken = torch.zeros(len(split), dtype=torch.bool)
    for label in range(int(split.labels.max()) + 1):
        members = torch.nonzero(split.labels == label).flatten()
        room = min(round(fraction * len(members)), len(members) - 1)
        for position in members[torch.randperm(len(members), generator=generator)].tolist():
            group = equal.get(position, [])  # nothing for a repeat, which goes with its first
            if group and len(group) <= room:
                taken[group] = True
                room -= len(group)
    return _chosen(split, torch.nonzero(~taken).flatten()), _chosen(split, torch.nonzero(taken).flatten())


def _chosen(split: Split, positions: Tensor) -> Split:
    numbers: Sequence[int] = positions.tolist()
    names = [split.names[number] for number in numbers]
    return Split(split.images, [split.indices[number] for number in numbers], split.labels[positions], names)
