"""A person's own images: a folder or an archive of class folders, with splits or without, or a table of labels."""

import math
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from datamodules.augmentation import AugmentationName
from datamodules.base import HandfulDataModule
from datamodules.file_tree import FileTree, contents_of, digest
from datamodules.image_check import Place, Reader, Reading, RepeatsPolicy, UnreadablePolicy
from datamodules.images import ImagePixels, Split, is_packed, pack, unpack
from datamodules.label_table import TABLE_SUFFIXES, list_table
from datamodules.listing import Listing, list_folders
from datamodules.open_tree import open_tree
from datamodules.problems import refuse
from datamodules.samplers import mixed
from datamodules.splitting import divide
from handful.errors import UserError
from handful.images import MAX_PIXELS, Fit, open_image, resize
from handful.images.clutter import LeftOut
from handful.images.placement import Framing, check_fit
from handful.images.upright import Turn
from handful.text import safe_text

# With cache "auto", decoded images up to so many bytes are kept, where they leave three quarters of the free disk.
_CACHE_LIMIT = 2**33
# Part of every cache key: raised when what is checked, kept or decoded changes, so that older entries are not used.
_VERSION = 6
# Part of what runs know their images by; raised only when the same files stand for other images.
_CONTENTS_VERSION = 3

_SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}


class ImageFolder(HandfulDataModule):
    """Images by class, in folders or by a table.

    `root` holds `train/<class>/…` and `test/<class>/…`, and `val/<class>/…` or not; or `train/<class>/…` alone; or
    `<class>/…`. It may be an archive (zip, tar, tar.gz, tar.xz, tar.bz2) of such folders, which is never unpacked. Or
    a CSV file names the images: `path,label[,split]`. Splits that are not there are drawn from the training images:
    stratified by class, seeded, equal images on one side.

    All images are decoded once to check them; small ones are kept decoded in the cache, so that later runs start at
    once. Images are resized so that their shorter side is `image_size`, and cropped to a square (`fit`). Transparent
    pixels are white. Files of operating systems and network storage are ignored; what was read and left out is printed.

    Args:
        root: the folder or archive, or the CSV file, whose paths then start at its own folder.
        val_fraction: share of each class's training images to validate on where there is no `val/`; 0 for none.
        test_fraction: share of each class's images to test on where there is no `test/`.
        labels: a CSV file of `path,label[,split]` whose paths start at `root` or are absolute.
        repeats: what to do with an image that stands in two splits or classes, pixel for pixel: "refuse"; "warn" and
            keep it; "drop", so that each image is there once, in the test set rather than in training, and images of
            two classes are left out.
        unreadable: what to do with images that cannot be read: "refuse", or "skip" them.
        white: value of white in images of 32-bit whole numbers or floating point, whose type does not say it.
        max_megapixels: larger images are refused, in millions of pixels.
        cache: keep decoded images: true, false or "auto" (up to 8 GiB, and a quarter of the free disk).
        fit: how pictures are brought into a square: "crop" takes the middle, "pad" adds black bars, "squash" stretches,
            "timm" resizes and crops as the backbone's publisher tests it (a pipeline says which backbone).
        image_size: side of the images in pixels.
        batch_size: see `HandfulDataModule`, as all below.
        eval_batch_size: see there.
        num_workers: see there.
        normalisation: see there.
        augmentation: see there.
        seed: also chooses the images that splits are drawn from.
        cache_dir: see there.

    Raises:
        UserError: when the images are first asked for: no such folder, unreadable images, a class without images,
            classes that differ between splits, fewer than two classes, the same image in two splits or in two classes,
            be it in files that differ: decoded pixels are compared.
    """

    loads_files = True
    #: Whether a class without training images is an error.
    every_class_is_there = True

    def __init__(
        self,
        root: str,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        labels: str | None = None,
        repeats: RepeatsPolicy = "refuse",
        unreadable: UnreadablePolicy = "refuse",
        white: float | None = None,
        max_megapixels: float = MAX_PIXELS / 1e6,
        cache: bool | Literal["auto"] = "auto",
        fit: Fit = "crop",
        image_size: int = 224,
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
        for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
            if not 0 <= fraction < 1:
                raise UserError(f"data.{name} must be at least 0 and below 1, not {fraction}.")
        for name, chosen, policies in (
            ("repeats", repeats, RepeatsPolicy),
            ("unreadable", unreadable, UnreadablePolicy),
        ):
            if chosen not in get_args(policies):
                raise UserError(f"data.{name} must be one of {', '.join(get_args(policies))}, not {chosen!r}.")
        for name, number in (("white", white), ("max_megapixels", max_megapixels)):
            if number is not None and not 0 < number < math.inf:
                raise UserError(f"data.{name} must be a number above 0, not {number}.")
        check_fit(fit)
        self.fit = fit
        self.root = Path(root).expanduser()
        self.labels = Path(labels).expanduser() if labels else None
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.repeats = repeats
        self.unreadable = unreadable
        self.white = white
        self.max_pixels = int(max_megapixels * 1e6)
        self.keep = cache

    @cached_property
    def listing(self) -> Listing:
        """The files of all splits, found in `root`."""
        if self.labels is None and self.has_table:
            return list_table(open_tree(self.root.parent, self.cache), self.root, self.repeats == "drop", self.cache)
        tree = open_tree(self.root, self.cache)
        if self.labels is None:
            return list_folders(tree)
        return list_table(tree, self.labels, self.repeats == "drop", self.cache)

    @property
    def has_table(self) -> bool:
        """Whether a table says which images there are, rather than folders."""
        return self.labels is not None or (self.root.is_file() and self.root.suffix.lower() in TABLE_SUFFIXES)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, sorted."""
        return self.listing.class_names

    def training_size(self) -> int:
        """About how many training images there are: the files, less the share of splits to be drawn."""
        size = float(len(self.listing.files["train"]))
        for split, fraction in (("test", self.test_fraction), ("val", self.val_fraction)):
            size *= 1 if split in self.listing.files else 1 - fraction
        return round(size)

    def fingerprint(self) -> str:
        """Return a short text that changes with the files and with what the splits are drawn from."""
        options = [self.repeats, self.unreadable, str(self.test_fraction if "test" not in self.listing.files else 0)]
        options += [self.fit] if self.fit != "crop" else []
        return f"{self._checked_key}-{self.val_fraction}-{self.seed}-{digest(*options)}"

    def contents(self) -> str:
        """Return a short text that a copy of the images in another folder, or an archive of them, shares."""
        paths = [path for files in self.listing.files.values() for path, _ in files]
        # boxes of pictures that their EXIF tag turns were laid over the picture as it is stored
        turned = "-turned" if self.listing.boxes else ""
        return f"{_CONTENTS_VERSION}-{contents_of(self.listing.tree, sorted(paths))}{self.listing.key}{turned}"

    def load_splits(self) -> dict[str, Split]:
        """Return the splits; decodes and checks all images unless the cache knows them."""
        if self.fit == "timm":
            raise UserError(
                "data.fit: 'timm' means the framing of the pipeline's network, and here is none: run it in a pipeline, "
                "or choose crop, pad or squash."
            )
        images, reading = self._packed() if self._keeps_decoded() else self._files()
        gone = self._judge(reading)
        splits = {split: self._split(split, images[split], gone) for split in self.listing.files}
        missing = [name for n, name in enumerate(self.class_names) if not (splits["train"].labels == n).any()]
        if missing and self.every_class_is_there:
            raise UserError(
                f"{safe_text(self.listing.tree.root)} keeps no training image of the class {missing[0]!r}"
                + (f" and of {len(missing) - 1} others." if len(missing) > 1 else ".")
            )
        for split, found in splits.items():
            if not len(found):
                raise UserError(
                    f"{safe_text(self.listing.tree.root)} keeps no {_SPLIT_WORDS[split]} image: all of them were left "
                    "out. Replace them, or remove the split, and it is drawn from the training images."
                )
        drawn = self._draw(splits, reading.repeats("train"))
        self.report = self._described(splits, drawn, gone, len(reading.conflicts(self.listing)))
        return splits

    def _draw(self, splits: dict[str, Split], repeats: dict[int, int]) -> list[str]:
        """Draw the splits that are not there from the training images, and return their names."""
        drawn = []
        for split, fraction, seed in (
            ("test", self.test_fraction, mixed(self.seed, 1)),
            ("val", self.val_fraction, self.seed),
        ):
            if split in splits or fraction == 0:
                continue
            splits["train"], splits[split] = divide(splits["train"], fraction, seed, repeats)
            drawn.append(split)
            if not len(splits[split]):
                raise UserError(
                    f"No {_SPLIT_WORDS[split]} image can be drawn in {safe_text(self.root)}: no class has two "
                    f"different images to divide. Set data.{split}_fraction to 0 for none, or add images."
                )
        if "test" not in splits:
            raise UserError(f"data.root {safe_text(self.root)} has no test images, and data.test_fraction is 0.")
        return drawn

    def _judge(self, reading: Reading) -> dict[Place, str]:
        """Return what is left out after reading, with the reason; refuse what is not to be left out."""
        unreadable = [reason for _, _, reason in reading.unreadable] if self.unreadable == "refuse" else []
        conflicts = reading.conflicts(self.listing) if self.repeats == "refuse" else []
        advice = []
        if unreadable:
            advice.append("Replace or remove what cannot be read, or leave it out with --data.unreadable skip.")
        if conflicts:
            advice.append("Keep each image in one place, or choose data.repeats warn or drop.")
        refuse(unreadable + conflicts, " ".join(advice), self.cache)
        gone = {(split, number): "unreadable" for split, number, _ in reading.unreadable}
        return gone | (reading.dropped(self.listing) if self.repeats == "drop" else {})

    def _split(self, split: str, images: ImagePixels, gone: dict[Place, str]) -> Split:
        files = self.listing.files[split]
        kept = [number for number in range(len(files)) if (split, number) not in gone]
        labels = torch.tensor([files[number][1] for number in kept], dtype=torch.int64)
        return Split(images, kept, labels, [files[number][0] for number in kept])

    def _described(self, splits: dict[str, Split], drawn: list[str], gone: dict[Place, str], conflicts: int) -> str:
        """Return one line that says what was read, and what was left out and why."""
        shares = {"val": self.val_fraction, "test": self.test_fraction}
        parts = []
        for split, word in _SPLIT_WORDS.items():
            if split in splits:
                share = f" (drawn: {shares[split]:.0%} of each class, seed {self.seed})" if split in drawn else ""
                parts.append(f"{len(splits[split]):,} {word}{share}")
        text = (
            f"Read {sum(map(len, splits.values())):,} images of {self.num_classes:,} classes in "
            f"{safe_text(self.listing.tree.root)}: {', '.join(parts)}."
        )
        left_out = LeftOut()
        left_out.update(self.listing.left_out)
        for (split, number), reason in gone.items():
            left_out.add(reason, self.listing.files[split][number][0])
        if str(left_out):
            text += f" Left out: {left_out}."
        if conflicts and self.repeats == "warn":
            text += f" {conflicts:,} images stand in two splits or classes."
        for split in splits:
            absent = [name for n, name in enumerate(self.class_names) if not (splits[split].labels == n).any()]
            if absent and split != "train" and self.every_class_is_there:
                some = ", ".join(map(safe_text, absent[:3])) + (", …" if len(absent) > 3 else "")
                count = f"{len(absent):,} classes have" if len(absent) > 1 else "1 class has"
                text += f" {count} no {_SPLIT_WORDS[split]} image ({some})."
        return text

    def _keeps_decoded(self) -> bool:
        # photographs are seldom narrower than 3:4
        bytes_needed = self.listing.count * 3 * Framing.of(self.fit).resized_side(self.image_size) ** 2 * 4 // 3
        if self.keep != "auto":
            return self.keep
        # what is kept already stays in use, however full the disk is by now
        return bytes_needed <= _CACHE_LIMIT and (
            self.cache.find(self._packed_key) is not None or 4 * bytes_needed <= self.cache.free_bytes()
        )

    @property
    def _packed_key(self) -> str:
        return f"images-{self._checked_key}-{self.image_size}{'' if self.fit == 'crop' else f'-{self.fit}'}"

    @cached_property
    def _checked_key(self) -> str:
        # entries hold the images of each split in order, so which these are is part of the key
        rows = digest(*(f"{split}\0{path}\0{label}" for split, files in self.listing.files.items()
                        for path, label in files))  # fmt: skip
        given = [rows, self.listing.key, *([f"white {self.white}"] if self.white else [])]
        return f"{_VERSION}-{self.listing.tree.fingerprint()}{digest(*given)}"

    def _reader(self, size: int | None = None) -> Reader:
        return Reader(self.listing, size, self.white, self.max_pixels, self.fit)

    def _packed(self) -> tuple[dict[str, ImagePixels], Reading]:
        def make(draft: Path) -> None:
            reader = self._reader(self.image_size)
            for split, images in reader.images():
                pack(images, draft, split)
            reading = reader.close()
            self._judge(reading)  # before it is kept
            reading.save(draft)

        def is_whole(folder: Path) -> bool:
            return Reading.is_in(folder) and all(
                is_packed(folder, split, len(files)) for split, files in self.listing.files.items()
            )

        entry = self.cache.entry(self._packed_key, make, is_whole)
        return {split: unpack(entry, split) for split in self.listing.files}, Reading.load(entry)

    def _files(self) -> tuple[dict[str, ImagePixels], Reading]:
        def check() -> dict[str, Any]:
            reader = self._reader()
            for _, images in reader.images():
                for _ in images:
                    pass
            reading = reader.close()
            self._judge(reading)
            return reading.plain()

        reading = Reading.of_plain(self.cache.value(f"checked-{self._checked_key}", check, Reading.is_plain))
        return {split: ImageFiles(self, split) for split in self.listing.files}, reading


class ImageFiles:
    """The images of a split, decoded each time they are asked for."""

    def __init__(self, data: ImageFolder, split: str) -> None:
        self._tree: FileTree = data.listing.tree
        self._size, self._white, self._max_pixels = data.image_size, data.white, data.max_pixels
        self._fit = data.fit
        self._paths = [path for path, _ in data.listing.files[split]]
        self._boxes = data.listing.boxes

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        path = self._paths[index]
        source, name = self._tree.source(path), safe_text(self._tree.root / path)
        image = open_image(source, name, white=self._white, max_pixels=self._max_pixels, least=self._size)
        box = self._boxes.get(path)
        resized = resize(image, self._size, self._fit, None if box is None else Turn.of(source).box(box))
        return torch.from_numpy(np.asarray(resized).transpose(2, 0, 1).copy())
