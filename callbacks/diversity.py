"""diversity@k after every epoch, exact on any number of processes."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT

from callbacks.epoch_measure import EpochMeasure
from handful.features import FeatureBatch
from handful.metrics import DiversityAtK


class Diversity(EpochMeasure):
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
        return [*(f"val/diversity@{i + 1}" for i in range(self.k)), *self.stand_ins]

    @property
    def stand_ins(self) -> list[str]:
        """What is logged instead where there are no validation images."""
        return [f"train/diversity@{i + 1}" for i in range(self.k)]

    def start(self, pl_module: pl.LightningModule) -> None:
        """Reset the metric, on the model's device."""
        self.metric = DiversityAtK(self.k).to(pl_module.device)
        self.seen = False

    def add(self, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Any, training: bool) -> None:
        """Add a batch; one of stored features has no maps."""
        if training and isinstance(batch, FeatureBatch) and batch.maps is None:
            return
        if self.metric is None or not isinstance(outputs, Mapping) or "maps" not in outputs:
            return
        model: Any = pl_module.model
        with torch.no_grad():
            maps, weight = model.head.deciding_maps(outputs["maps"])
            self.metric.update(maps, outputs["logits"], weight)
        self.seen = True

    def finish(self, trainer: pl.Trainer, pl_module: pl.LightningModule, training: bool) -> None:
        """Log the sums over all ranks."""
        if self.metric is None or not self.seen:
            return
        for name, value in self.metric.compute().items():
            pl_module.log(f"{'train' if training else 'val'}/{name}", value.float(), sync_dist=False)
        self.metric = None
