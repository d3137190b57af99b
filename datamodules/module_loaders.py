"""The loaders of a data module, the same images on any number of ranks."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.dataset import ImageDataset
from datamodules.loaders import LateLoader, affordable_workers, collate, spare_processes
from datamodules.samplers import EvaluationSampler, TrainingSampler
from datamodules.stored_features import StoredFeatures, as_it_is
from handful.cores import usable_cores
from handful.features import FeatureStore


class ModuleLoaders(L.LightningDataModule, ABC):
    """Loaders over the data sets of a data module.

    Evaluation gives every image once over all ranks. The training loader's order depends on (seed, epoch) alone.

    Attributes:
        image_size: side of the images in pixels.
        batch_size: images in a training batch, on each rank.
        eval_batch_size: images in a batch of evaluation.
        num_workers: loader processes; as many as pay where None.
        seed: of the order.
    """

    image_size: int
    batch_size: int
    eval_batch_size: int
    num_workers: int | None
    seed: int

    #: Whether images come from files, which loader processes can read ahead.
    loads_files = False

    def __init__(self) -> None:
        super().__init__()
        self._stores: Mapping[str, FeatureStore] = {}

    @abstractmethod
    def _dataset(self, split: str, augmented: bool = False) -> ImageDataset:
        """The images of a split."""

    @property
    def train_dataset(self) -> ImageDataset:
        """Training images, augmented; asked for by (epoch, index), or by index for epoch 0."""
        return self._dataset("train", augmented=True)

    @property
    def plain_train_dataset(self) -> ImageDataset:
        """Training images as in evaluation, not augmented, in the same fixed order."""
        return self._dataset("train")

    @property
    @abstractmethod
    def val_dataset(self) -> ImageDataset | None:
        """Validation images, None where there is no validation split."""

    @property
    def test_dataset(self) -> ImageDataset:
        """Test images."""
        return self._dataset("test")

    def plain_dataset(self, split: str) -> ImageDataset:
        """Images of a split as in evaluation, not augmented."""
        return self._dataset(split)

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
