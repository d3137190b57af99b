"""diversity@k after every epoch, exact on any number of processes."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import STEP_OUTPUT

from handful.metrics import DiversityAtK
from lightning_modules.trainer_data import TrainerData


class Diversity(pl.Callback):
    """Log `val/diversity@1` … `val/diversity@k` from the validation loop's own forward pass.

    Keeps sums and counts only; every rank sees its own images, the ranks' sums are added. Changes nothing in
    the model. Modules whose validation step returns no maps are skipped.

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

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn where there are no validation images."""
        if TrainerData(trainer).lacks_validation:
            rank_zero_warn("Diversity: there are no validation images, so diversity@k is measured in testing only")

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the metric, on the model's device."""
        self.metric = DiversityAtK(self.k).to(pl_module.device)
        self.seen = False

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
        if self.metric is None or trainer.sanity_checking or not isinstance(outputs, Mapping) or "maps" not in outputs:
            return
        model: Any = pl_module.model
        maps, weight = model.head.deciding_maps(outputs["maps"])
        self.seen = True
        self.metric.update(maps, outputs["logits"], weight)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the sums over all ranks."""
        if self.metric is None or trainer.sanity_checking or not self.seen:
            return
        for name, value in self.metric.compute().items():
            pl_module.log(f"val/{name}", value.float(), sync_dist=False)
        self.metric = None
