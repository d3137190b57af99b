"""diversity@k after every epoch, exact on any number of processes."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT

from handful.features import FeatureBatch
from handful.metrics import DiversityAtK
from lightning_modules.trainer_data import TrainerData


class Diversity(pl.Callback):
    """Log `val/diversity@1` … `val/diversity@k` from the validation loop's own forward pass.

    Where there are no validation images, `train/diversity@k` from the training steps' own forward passes, hence of
    augmented images and of a model that changes from step to step.

    Keeps sums and counts only; every rank sees its own images, the ranks' sums are added. Changes nothing in
    the model. Modules whose steps return no maps are skipped.

    Args:
        k: the largest k.
    """

    def __init__(self, k: int = 5) -> None:
        self.k = k
        self.metric: DiversityAtK | None = None
        self.seen = False

    @property
    def measures(self) -> list[str]:
        """What is logged, for a phase's `monitor`."""
        return [f"val/diversity@{i + 1}" for i in range(self.k)]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the metric, where training images stand in for validation images."""
        if not TrainerData(trainer).validates:
            self._restart(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Add a batch, where training images stand in for validation images."""
        without_maps = isinstance(batch, FeatureBatch) and batch.maps is None
        if not without_maps and not TrainerData(trainer).validates:
            self._add(pl_module, outputs)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the sums over all ranks, where training images stand in for validation images."""
        if not TrainerData(trainer).validates:
            self._log(pl_module, "train")

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the metric, on the model's device."""
        self._restart(pl_module)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add a batch."""
        if not trainer.sanity_checking:
            self._add(pl_module, outputs)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the sums over all ranks."""
        if not trainer.sanity_checking:
            self._log(pl_module, "val")

    def _restart(self, pl_module: pl.LightningModule) -> None:
        self.metric = DiversityAtK(self.k).to(pl_module.device)
        self.seen = False

    def _add(self, pl_module: pl.LightningModule, outputs: STEP_OUTPUT) -> None:
        if self.metric is None or not isinstance(outputs, Mapping) or "maps" not in outputs:
            return
        model: Any = pl_module.model
        with torch.no_grad():
            maps, weight = model.head.deciding_maps(outputs["maps"])
            self.metric.update(maps, outputs["logits"], weight)
        self.seen = True

    def _log(self, pl_module: pl.LightningModule, split: str) -> None:
        if self.metric is None or not self.seen:
            return
        for name, value in self.metric.compute().items():
            pl_module.log(f"{split}/{name}", value.float(), sync_dist=False)
        self.metric = None
