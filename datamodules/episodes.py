"""Few-shot data: episodes of classes, and classes that training never sees."""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from datamodules.augmentation import AugmentationName
from datamodules.base import HandfulDataModule
from datamodules.file_tree import FileTree, contents_of, digest, splits_of
from datamodules.images import Split, is_packed, pack, unpack
from datamodules.listing import class_name, only_pictured
from datamodules.loaders import LateLoader, collate
from datamodules.open_tree import open_tree
from datamodules.samplers import EpochAndIndex
from handful.errors import UserError
from handful.fewshot.episodes import EpisodeSampler, split_classes
from handful.images import is_image_name, looks_like_image, read_image
from handful.images.formats import HEAD
from handful.progress import ProgressBar


class Episodes(HandfulDataModule):
    """Episodes of images by class: `root/<class>/…`, or `root/train|val|test/<class>/…`, whose images are pooled.

    The *classes* are split: base classes train, val classes choose, novel classes test. All 200 classes of CUB follow
    the field's rule, any other data a seeded split; see `handful.fewshot.episodes.split_classes`.

    The training loader gives one episode a batch, class by class, support images first. Validation and test give
    plain images, each once over all ranks: every image is embedded once, and hundreds of episodes are made of the
    embeddings.

    Args:
        root: the folder, or a `.zip` archive of it, which is read where it lies.
        way: classes of a training episode.
        shot: support images per class.
        query: query images per class.
        episodes: training episodes per epoch, over all ranks.
        fractions: shares of base, val and novel classes.
        margin: images are kept with a shorter side of `margin · image_size`, for crops.
        image_size: side of the images in pixels.
        eval_batch_size: images in a batch of evaluation.
        num_workers: see `HandfulDataModule`, as all below.
        normalisation: see there.
        augmentation: see there.
        seed: also chooses classes and episodes.
        cache_dir: see there.

    Raises:
        UserError: when the images are first asked for: no such folder, fewer than three classes, a class too small.

    Source: Snell et al. 2017; splits and sizes Chen et al. 2019 (arXiv 1904.04232).
    """

    def __init__(
        self,
        root: str,
        way: int = 5,
        shot: int = 1,
        query: int = 16,
        episodes: int = 100,
        fractions: tuple[float, float, float] = (0.64, 0.16, 0.2),
        margin: float = 1.15,
        image_size: int = 84,
        eval_batch_size: int = 64,
        num_workers: int | None = None,
        normalisation: Literal["compute", "imagenet", "backbone"] | dict[str, list[float]] = "imagenet",
        augmentation: AugmentationName = "crop_flip",
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        for name, value, least in (("way", way, 2), ("shot", shot, 1), ("query", query, 1), ("episodes", episodes, 1)):
            if value < least:
                raise UserError(f"data.{name} must be at least {least}, not {value}.")
        if len(fractions) != 3 or min(fractions) < 0 or not 0.99 < sum(fractions) < 1.01:
            raise UserError(f"data.fractions must be three shares of at least 0 that add up to 1, not {fractions}.")
        if margin < 1:
            raise UserError(f"data.margin must be at least 1, not {margin}.")
        batch_size = way * (shot + query)
        super().__init__(
            image_size, batch_size, eval_batch_size, num_workers, normalisation, augmentation, seed, cache_dir
        )
        self.root = Path(root).expanduser()
        self.way, self.shot, self.query, self.episodes = way, shot, query, episodes
        self.fractions = fractions
        self.margin = margin

    @cached_property
    def _tree(self) -> FileTree:
        return open_tree(self.root, self.cache)

    @cached_property
    def files(self) -> dict[str, list[str]]:
        """All images by class name, sorted."""
        tree = self._tree
        images = [path for path in tree.files() if is_image_name(path) or looks_like_image(tree.head(path, HEAD))]
        above = only_pictured(images)  # tables and annotations may lie beside the folder of all images
        above = above and f"{above}/"
        tops = {path.removeprefix(above).partition("/")[0] for path in images if "/" in path.removeprefix(above)}
        splits = splits_of(sorted(tops), tops)
        depth = 1 if {"train", "test"} <= set(splits.values()) and len(splits) == len(tops) else 0
        found: dict[str, list[str]] = {}
        for path in images:
            parts = path.removeprefix(above).split("/")
            if len(parts) > depth + 1:
                found.setdefault(class_name(parts[depth]), []).append(path)
        return {name: sorted(found[name]) for name in sorted(found)}

    @cached_property
    def class_splits(self) -> dict[str, list[str]]:
        """Names of the base, val and novel classes."""
        names = list(self.files)
        chosen = split_classes(names, self.seed, self.fractions)
        return {split: [names[i] for i in numbers] for split, numbers in chosen.items()}

    @property
    def class_names(self) -> list[str]:
        """Names of the base classes; val and novel classes are in `class_splits`."""
        return self.class_splits["base"]

    def fingerprint(self) -> str:
        """Return a short text that changes with the files and the classes trained on."""
        return f"{self._tree.fingerprint()}-{self.fractions}-{self.seed}"

    def contents(self) -> str:
        """Return a short text that a copy of the images in another folder, or an archive of them, shares."""
        return contents_of(self._tree, sorted(path for members in self.files.values() for path in members))

    def load_splits(self) -> dict[str, Split]:
        """Return the base, val and novel classes' images as "train", "val" and "test"; labels count in each split."""
        paths = [path for members in self.files.values() for path in members]
        size = round(self.margin * self.image_size)
        key = f"pool-4-{self._tree.fingerprint()}-{digest(*paths)}-{size}"

        def make(draft: Path) -> None:
            with ProgressBar(len(paths), "reading images") as bar:
                pack((self._decoded(path, size, bar.update) for path in paths), draft, "images")

        entry = self.cache.entry(key, make, lambda folder: is_packed(folder, "images", len(paths)))
        images = unpack(entry, "images")
        place = {path: i for i, path in enumerate(paths)}
        splits = {}
        for name, split in (("train", "base"), ("val", "val"), ("test", "novel")):
            chosen = [(p, label) for label, c in enumerate(self.class_splits[split]) for p in self.files[c]]
            labels = torch.tensor([label for _, label in chosen], dtype=torch.int64)
            splits[name] = Split(images, [place[p] for p, _ in chosen], labels, [p for p, _ in chosen])
        return splits

    def _decoded(self, path: str, size: int, done: Callable[[], object]) -> npt.NDArray[np.uint8]:
        image = read_image(self._tree.source(path), str(self._tree.root / path), size)
        done()
        return image

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """One episode of base classes a batch; the same episodes for any number of ranks."""
        rank, world_size = self._ranks()
        dataset = self.train_dataset
        sampler = EpisodeSampler(
            dataset.labels,
            way=self.way,
            shot=self.shot,
            query=self.query,
            episodes=self.episodes,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )
        workers = self._loader_processes(dataset, self.batch_size)
        return LateLoader(
            dataset,
            collate_fn=collate,
            batch_sampler=EpisodeBatches(sampler, self._epoch),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self._feeds_gpu(),
            generator=torch.Generator().manual_seed(self.seed),
        )


class EpisodeBatches(Sampler[list[EpochAndIndex]]):
    """Batches of keys for an augmented data set; an image looks different in every episode.

    Args:
        sampler: of the episodes.
        epoch: returns the current epoch, asked when an iteration begins.
    """

    def __init__(self, sampler: EpisodeSampler, epoch: Callable[[], int]) -> None:
        self.sampler = sampler
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[EpochAndIndex]]:
        epoch = self._epoch()
        self.sampler.set_epoch(epoch)
        for turn in range(len(self)):
            number = turn * self.sampler.world_size + self.sampler.rank
            key = epoch * self.sampler.episodes + number
            yield [(key, index) for index in self.sampler.draw(number)]
