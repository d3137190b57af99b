"""What a phase runs with: its Trainer, its data, the earlier phases' folders and its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.base import HandfulDataModule
from handful.errors import UserError
from handful.networks import Classifier
from handful.ranks import dataset_indices, interleave
from lightning_modules import ClassifierModule, TrainedModule, save_module
from lightning_modules.checkpoints import write_tensors
from lightning_modules.published import share_weights
from pipelines.phase_folder import PhaseFolder
from pipelines.ranks import on_rank_zero
from pipelines.stored_features import FrozenFeatures, pooled, stored

T = TypeVar("T")

#: Called with feature maps `(B, F, h, w)` and labels `(B,)` of a batch.
OnMaps = Callable[[Tensor, Tensor], None]

#: Called with pooled features `(B, F)`, labels `(B,)` and dataset indices `(B,)` of a batch.
OnFeatures = Callable[[Tensor, Tensor, Tensor], None]


@dataclass
class Context:
    """What a phase runs with, and the only place where features are gathered over ranks.

    Attributes:
        trainer: fresh, for this phase.
        datamodule: the pipeline's, with what the phase changes.
        earlier: name of every finished earlier phase → its folder.
        folder: of this phase.
        max_epochs: of training; 0 takes the module as it is handed over.
        resume: the `last.ckpt` to resume from, where there is one.
    """

    trainer: pl.Trainer
    datamodule: HandfulDataModule
    earlier: Mapping[str, Path]
    folder: PhaseFolder
    max_epochs: int = 0
    resume: Path | None = None

    def __post_init__(self) -> None:
        """Let the loaders know the ranks; Lightning does it only for a data module that it is given whole."""
        self.datamodule.trainer = self.trainer

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process writes files."""
        return self.trainer.is_global_zero

    def each_batch(
        self, classifier: Classifier, loader: DataLoader[tuple[Tensor, int]], function: OnFeatures
    ) -> None:
        """Call a function with the features of every batch of this rank.

        The network is in evaluation mode and computes in float32.

        Args:
            classifier: gives the features.
            loader: an evaluation loader of the data module, whose images are shared out over the ranks.
            function: called in the order of the loader.
        """
        self.trainer.validate(_FeatureLoop(classifier, function), dataloaders=loader, verbose=False)

    def each_batch_of_maps(
        self, classifier: Classifier, loader: DataLoader[tuple[Tensor, int]], function: OnMaps
    ) -> None:
        """Call a function with the feature maps of every batch of this rank, as `each_batch` with the features."""
        self.trainer.validate(_MapLoop(classifier, function), dataloaders=loader, verbose=False)

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, on every rank and on the tensor's device."""
        if self.trainer.world_size == 1:
            return value
        summed: Tensor = self.trainer.strategy.reduce(
            value.to(self.trainer.strategy.root_device), reduce_op="sum"
        )
        return summed.to(value.device)

    def start_processes(self, module: pl.LightningModule) -> None:
        """Start the other processes of the run, or meet those that were started from outside, once."""
        apart = self.trainer.world_size > 1 and not torch.distributed.is_initialized()
        if self.trainer.strategy.launcher is not None or apart:
            self.trainer.validate(module, dataloaders=[], verbose=False)

    @contextmanager
    def stored_features(self, module: ClassifierModule, maps: Mapping[str, bool]) -> Iterator[None]:
        """Let the data module give features of a frozen backbone in the place of images; see `FrozenFeatures`.

        Args:
            module: of which the backbone is frozen.
            maps: split → whether maps are needed beside the pooled features.

        Raises:
            UserError: on every rank: images that cannot be read, or a cache that cannot be written.
        """
        self.start_processes(module)
        share_weights(module, self.trainer)
        stores = stored(module, self.datamodule, maps, self.trainer)
        with self.datamodule.serving(stores):
            yield

    def features_of(self, module: ClassifierModule, split: str) -> tuple[Tensor, Tensor] | None:
        """Features and labels of a split as `features` gives them; kept ones where the backbone is frozen.

        Args:
            module: gives the features.
            split: "train", "val" or "test"; un-augmented.
        """
        dataset = self.datamodule.plain_dataset(split)
        if module.train_backbone:
            return self.features(module.model, self.datamodule.evaluation_loader(dataset), len(dataset))
        self.start_processes(module)
        store = FrozenFeatures(module, self.datamodule, self.trainer).store(split)
        return (pooled(module, store), dataset.labels) if self.is_rank_zero else None

    def features(
        self, classifier: Classifier, loader: DataLoader[tuple[Tensor, int]], size: int
    ) -> tuple[Tensor, Tensor] | None:
        """Features `(N, F)` and labels `(N,)` of all images in the order of the data set; None but on rank zero.

        Args:
            classifier: gives the features, in evaluation mode and float32.
            loader: an evaluation loader over all ranks.
            size: N, of its data set.

        Raises:
            UserError: on rank zero; other numbers of images came in.
        """
        features: list[Tensor] = []
        labels: list[Tensor] = []

        def keep(batch: Tensor, batch_labels: Tensor, _: Tensor) -> None:
            features.append(batch.cpu())
            labels.append(batch_labels.cpu())

        self.each_batch(classifier, loader, keep)
        own = (
            torch.cat(features) if features else torch.zeros(0, 0),
            torch.cat(labels) if labels else torch.zeros(0, dtype=torch.int64),
        )
        parts = self._all_ranks(own)
        if parts is None:
            return None
        try:
            return interleave([part[0] for part in parts], size), interleave([part[1] for part in parts], size)
        except ValueError as error:
            raise UserError(f"features of other images than expected: {error}") from error

    def _all_ranks(self, own: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]] | None:
        """The parts of all ranks by files, which hold more than a message between processes may; on rank zero."""
        world_size = self.trainer.world_size
        if world_size == 1:
            return [own]
        files = [self.folder.path / f"part.{rank}.tmp" for rank in range(world_size)]
        write_tensors(list(own), files[self.trainer.global_rank])
        self.trainer.strategy.barrier("features written")
        if not self.is_rank_zero:
            return None
        parts = [tuple(torch.load(file, weights_only=True)) for file in files]
        for file in files:
            file.unlink()
        return parts

    def on_rank_zero(self, function: Callable[[], T]) -> T | None:
        """Run a function on rank zero, while the others wait; None on these.

        Raises:
            UserError: on every rank, what the function raised: none waits for the others.
        """
        return on_rank_zero(self.trainer, function)

    def save(self, module: TrainedModule, files: Sequence[str] = ("best.ckpt",)) -> None:
        """Write checkpoints of a module into the phase's folder; for rank zero."""
        for name in files:
            save_module(module, self.folder.path / name)


class _FeatureLoop(pl.LightningModule):
    """Gives a function the features of every batch that a Trainer's validation loop brings."""

    doing = "gathering features"  # beside the progress bar

    def __init__(self, classifier: Classifier, function: OnFeatures) -> None:
        super().__init__()
        self.classifier = classifier
        self._function = function
        self._seen = 0

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Hand over features `(B, F)`, labels `(B,)` and dataset indices `(B,)`."""
        images, labels = batch
        with torch.autocast(self.device.type, enabled=False):
            features = self.classifier.features(images.float())
        trainer = self.trainer
        indices = dataset_indices(self._seen, len(labels), trainer.global_rank, trainer.world_size)
        self._seen += len(labels)
        self._function(features, labels, torch.tensor(indices, device=labels.device))


class _MapLoop(pl.LightningModule):
    """Gives a function the feature maps of every batch that a Trainer's validation loop brings."""

    doing = "gathering feature maps"  # beside the progress bar

    def __init__(self, classifier: Classifier, function: OnMaps) -> None:
        super().__init__()
        self.classifier = classifier
        self._function = function

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Hand over maps `(B, F, h, w)` and labels `(B,)`."""
        images, labels = batch
        with torch.autocast(self.device.type, enabled=False):
            maps = self.classifier.feature_maps(images.float())
        self._function(maps, labels)
