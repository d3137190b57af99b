"""What all data modules share: splits, normalisation, augmentation, and loaders exact on any number of ranks."""

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.augmentation import AugmentationName, build_augmentation
from datamodules.cache import Cache
from datamodules.dataset import ImageDataset
from datamodules.file_tree import digest
from datamodules.images import Split, batches
from datamodules.loaders import LateLoader, affordable_workers, collate, spare_processes
from datamodules.samplers import EvaluationSampler, TrainingSampler
from datamodules.stored_features import StoredFeatures, as_it_is
from handful.annotations import Annotations
from handful.cores import usable_cores
from handful.errors import UserError
from handful.features import FeatureStore
from handful.images import Fit, centre_crop
from handful.look_alikes import look_alike_warning

Triple = tuple[float, float, float]

#: Largest side of images in pixels: one of them takes 0.8 GB as numbers.
LARGEST_IMAGE = 8192

#: What was printed by this process about images that were read.
_reported: set[str] = set()

IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class HandfulDataModule(L.LightningDataModule, ABC):
    """A data set in splits; subclasses say where the images come from.

    The loaders of validation and test give every image once over all ranks. The training loader's order and
    augmentation depend on (seed, epoch) alone, so an interrupted and resumed run meets the batches of an unbroken one.

    Args:
        image_size: side of the images in pixels.
        batch_size: images in a training batch, on each rank.
        eval_batch_size: images in a batch of evaluation; as `batch_size` if not given.
        num_workers: loader processes; 0 loads in the training process. By default as many as the cores that may be used
            have to spare, which are none on two; see `spare_processes`.
        normalisation: "compute" (mean and deviation of the training images), "imagenet", "backbone" (what the
            pretrained backbone was trained with: a pipeline sets it) or {"mean": [r, g, b], "std": [r, g, b]}.
        augmentation: of training images: "none", "flip", "crop_flip", "standard", "resized_crop"; see
            `build_augmentation`.
        seed: of the order, the augmentations and whatever else the data set draws.
        cache_dir: where decoded images are kept; by default `$XDG_CACHE_HOME/handful`, else `~/.cache/handful`.
    """

    def __init__(
        self,
        image_size: int = 64,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        num_workers: int | None = None,
        normalisation: Literal["compute", "imagenet", "backbone"] | dict[str, list[float]] = "compute",
        augmentation: AugmentationName = "crop_flip",
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("image_size", image_size),
            ("batch_size", batch_size),
            ("eval_batch_size", eval_batch_size or 1),
        ):
            if value < 1:
                raise UserError(f"data.{name} must be at least 1, not {value}.")
        if (num_workers or 0) < 0 or seed < 0:
            raise UserError("data.num_workers and data.seed must not be negative.")
        if image_size > LARGEST_IMAGE:
            raise UserError(f"data.image_size must be at most {LARGEST_IMAGE:,}, not {image_size:,}.")
        if seed >= 2**63:
            raise UserError(f"data.seed must be below 2^63, not {seed}.")
        self.image_size = image_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.num_workers = num_workers
        self.normalisation = normalisation
        self.augmentation: AugmentationName = augmentation
        self.seed = seed
        self.cache = Cache(cache_dir)
        self._augment = build_augmentation(augmentation, image_size)
        self._given = _given_normalisation(normalisation)
        self._stores: Mapping[str, FeatureStore] = {}

    #: Whether images come from files, which loader processes can read ahead.
    loads_files = False

    #: Whether the seed decides which images there are or in which split they are, not their order alone.
    seed_draws_images: bool = True

    #: How pictures are brought into a square.
    fit: Fit = "crop"

    # -- what a subclass provides ---------------------------------------------------------------------------------

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """Names of the classes, by label; cheap to ask for."""

    @abstractmethod
    def load_splits(self) -> dict[str, Split]:
        """Return the splits "train", "test" and, where there is one, "val"; refuses bad data with a `UserError`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a short text that changes whenever the training images do."""

    def images_key(self, split: str) -> str:
        """Return a text that changes with the images of a split as a network gets them, un-augmented."""
        images = self.splits[split]
        names = digest(*images.names)
        given = [self.fingerprint(), split, len(images), names, self.image_size, self.mean, self.std]
        return json.dumps([type(self).__qualname__, *given])

    def contents(self) -> str:
        """Return a short text by which a run recognises its images, also in another folder."""
        return self.fingerprint()

    def training_size(self) -> int:
        """About how many training images there are, without reading them where their names tell it."""
        return len(self.splits["train"])

    def annotations(self, split: str) -> Annotations:
        """Return what is known of the images of a split beside their labels; nothing by default."""
        return Annotations()

    #: One line about what was read and what was left out, printed once; set by `load_splits`.
    report: str = ""

    # -- splits ---------------------------------------------------------------------------------------------------

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The splits by name, read when first asked for; process 0 says what was read and which classes look alike."""
        splits = self.load_splits()
        if _said_first(self.report):
            print(self.report, flush=True)
        alike = look_alike_warning(self.class_names)
        if _said_first(alike):
            warnings.warn(alike, stacklevel=2)
        return splits

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def prepare_data(self) -> None:
        """Read and check the data set once, so that other processes find it in the cache."""
        _ = self.splits

    def setup(self, stage: str | None = None) -> None:
        """Open all splits and settle the normalisation, whatever the stage."""
        _ = self.splits, self._mean_and_std

    @property
    def train_dataset(self) -> ImageDataset:
        """Training images, augmented; asked for by (epoch, index), or by index for epoch 0."""
        return self._dataset("train", augmented=True)

    @property
    def plain_train_dataset(self) -> ImageDataset:
        """Training images as in evaluation, not augmented, in the same fixed order."""
        return self._dataset("train")

    @property
    def val_dataset(self) -> ImageDataset | None:
        """Validation images, None where there is no validation split."""
        return self._dataset("val") if "val" in self.splits else None

    @property
    def test_dataset(self) -> ImageDataset:
        """Test images."""
        return self._dataset("test")

    def _dataset(self, split: str, augmented: bool = False) -> ImageDataset:
        augment = self._augment if augmented else None
        return ImageDataset(self.splits[split], self.image_size, self.mean, self.std, augment, self.seed)

    def summary(self) -> dict[str, Any]:
        """Return what a results file says about the data: plain values."""
        return {
            "name": type(self).__name__,
            "fingerprint": self.fingerprint(),
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "image_size": self.image_size,
            "images": {name: len(split) for name, split in self.splits.items()},
            "mean": list(self.mean),
            "std": list(self.std),
            "fit": self.fit,
        }

    # -- normalisation --------------------------------------------------------------------------------------------

    @property
    def mean(self) -> Triple:
        """Mean of the channels that images are normalised with, for pixel values in [0, 1]."""
        return self._mean_and_std[0]

    @property
    def std(self) -> Triple:
        """Standard deviation of the channels that images are normalised with, for pixel values in [0, 1]."""
        return self._mean_and_std[1]

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Normalise with these from now on; data sets and loaders made before keep what they have."""
        self._given = _given_normalisation({"mean": list(mean), "std": list(std)})

    @property
    def _mean_and_std(self) -> tuple[Triple, Triple]:
        if self._given is not None:
            return self._given
        if self.normalisation == "backbone":
            raise UserError(
                "data.normalisation is 'backbone', but nothing has said which: run it in a pipeline, "
                "or choose imagenet, compute or a mean and std."
            )
        return self._computed

    @cached_property
    def _computed(self) -> tuple[Triple, Triple]:
        key = f"statistics-{type(self).__name__}-{self.fingerprint()}-{self.image_size}"
        mean, std = self.cache.value(key, lambda: channel_statistics(self.splits["train"], self.image_size))
        return tuple(mean), tuple(std)

    # -- loaders --------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Augmented training images in the order of the epoch, padded to equally many on every rank."""
        rank, world_size = self._ranks()
        if "train" in self._stores:
            order = TrainingSampler(self.plain_train_dataset, self._epoch, self.seed, rank, world_size)
            return self._feature_loader("train", self.batch_size, order)
        dataset = self.train_dataset
        sampler = TrainingSampler(dataset, self._epoch, self.seed, rank, world_size, self.batch_size)
        if sampler.leaves_one_out and rank == 0:
            warnings.warn(
                f"{len(dataset)} training images in batches of {self.batch_size} leave one image alone in the last "
                "batch of an epoch, too few for batch norms: it is left out, another one in each epoch.",
                stacklevel=2,
            )
        return self._loader(dataset, self.batch_size, sampler)

    def plain_train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Training images as in evaluation, each once over all ranks, in the order of the data set."""
        return self.evaluation_loader(self.plain_train_dataset)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, int]] | list[Any]:
        """Validation images, each once over all ranks; an empty list where there is no validation split."""
        dataset = self.val_dataset
        return [] if dataset is None else self._split_loader("val", dataset)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Test images, each once over all ranks."""
        return self._split_loader("test", self.test_dataset)

    def predict_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Test images: what `predict` runs on by default."""
        return self.test_dataloader()

    @contextmanager
    def serving(self, stores: Mapping[str, FeatureStore]) -> Iterator[None]:
        """Let the loaders of training, validation and test give stored features in the place of images.

        The data sets stay those of the images, for whoever looks at these.

        Args:
            stores: split → features of its images, un-augmented and in their order.
        """
        before, self._stores = self._stores, stores
        try:
            yield
        finally:
            self._stores = before

    def plain_dataset(self, split: str) -> ImageDataset:
        """Images of a split as in evaluation, not augmented."""
        return self._dataset(split)

    def chunk_loader(self, dataset: ImageDataset, chunks: Sequence[Sequence[int]]) -> DataLoader[tuple[Tensor, int]]:
        """Images of a data set in given batches: dataset indices of each."""
        workers = self._loader_processes(dataset, max((len(chunk) for chunk in chunks), default=1))
        given = [list(chunk) for chunk in chunks]
        return LateLoader(dataset, batch_sampler=given, collate_fn=collate, num_workers=workers)

    def _split_loader(self, split: str, dataset: ImageDataset) -> DataLoader[Any]:
        if split not in self._stores:
            return self.evaluation_loader(dataset)
        return self._feature_loader(split, self.eval_batch_size, EvaluationSampler(dataset, *self._ranks()))

    def _feature_loader(
        self, split: str, batch_size: int, sampler: EvaluationSampler | TrainingSampler
    ) -> DataLoader[Any]:
        """Stored features in batches, from memory: loader processes would only copy them."""
        features = StoredFeatures(self._stores[split], self._dataset(split))
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(
            features,
            batch_size,
            sampler=sampler,
            collate_fn=as_it_is,
            pin_memory=self._feeds_gpu(),
            generator=generator,
        )

    def evaluation_loader(self, dataset: ImageDataset) -> DataLoader[tuple[Tensor, int]]:
        """Images of a data set, each once over all ranks, in its order."""
        return self._loader(dataset, self.eval_batch_size, EvaluationSampler(dataset, *self._ranks()))

    def _loader(
        self, dataset: ImageDataset, batch_size: int, sampler: EvaluationSampler | TrainingSampler
    ) -> DataLoader[tuple[Tensor, int]]:
        workers = self._loader_processes(dataset, batch_size)
        return LateLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self._feeds_gpu(),
            # its own generator, so that making an iterator takes no number from the global one
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _loader_processes(self, dataset: ImageDataset, batch_size: int) -> int:
        """Loader processes for batches of a data set: as many as were asked for, else as many as pay."""
        number = self.num_workers or 0
        if self.num_workers is None and self.loads_files:
            cores = usable_cores() // (self.trainer.num_devices if self.trainer else 1)
            number = spare_processes(cores, self._feeds_gpu(), len(dataset) * self.image_size**2)
        return affordable_workers(number, batch_size * 3 * self.image_size**2 * 4, self.num_workers is not None)

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _feeds_gpu(self) -> bool:
        """Whether batches go to a GPU; to pin memory for a run on the CPU would claim memory of a GPU."""
        if self.trainer is None:
            return torch.cuda.is_available()
        return self.trainer.strategy.root_device.type == "cuda"

    def _epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer else 0


def _said_first(sentence: str) -> bool:
    """Whether process 0 has not said this yet: phases and commands read the same images more than once."""
    if not sentence or sentence in _reported or getattr(rank_zero_only, "rank", 0) != 0:
        return False
    _reported.add(sentence)
    return True


def channel_statistics(split: Split, size: int) -> tuple[Triple, Triple]:
    """Return mean and population standard deviation of the channels over the un-augmented images of a split.

    Counted exactly, by how often each of the 256 values occurs; worked out in float64, for pixel values in [0, 1].
    A channel that never changes gets the deviation 1, so that it can be divided by.
    """
    counts = torch.zeros(3, 256, dtype=torch.int64)
    for indices in batches(len(split)):
        pixels = torch.stack([centre_crop(split.pixels(index), size) for index in indices])
        for channel in range(3):
            counts[channel] += torch.bincount(pixels[:, channel].flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts.to(torch.float64) / counts.sum(dim=1, keepdim=True)
    mean = (share * values).sum(dim=1)
    std = (share * (values - mean[:, None]) ** 2).sum(dim=1).sqrt()
    std = torch.where(std > 0, std, torch.ones_like(std))
    return _triple(mean.tolist()), _triple(std.tolist())


def _given_normalisation(normalisation: str | Mapping[str, Sequence[float]]) -> tuple[Triple, Triple] | None:
    if isinstance(normalisation, str):
        if normalisation not in ("compute", "imagenet", "backbone"):
            raise UserError(
                f"data.normalisation must be compute, imagenet, backbone or a mean and std, not {normalisation!r}."
            )
        return IMAGENET if normalisation == "imagenet" else None
    if set(normalisation) != {"mean", "std"} or any(len(values) != 3 for values in normalisation.values()):
        raise UserError(f"data.normalisation needs three numbers each as mean and std, not {dict(normalisation)}.")
    if min(normalisation["std"]) <= 0:
        raise UserError(f"data.normalisation needs a std above 0, not {list(normalisation['std'])}.")
    return _triple(normalisation["mean"]), _triple(normalisation["std"])


def _triple(values: Sequence[float]) -> Triple:
    red, green, blue = values
    return float(red), float(green), float(blue)
