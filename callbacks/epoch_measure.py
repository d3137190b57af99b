"""What is measured once an epoch from a loop's own forward passes."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities.types import STEP_OUTPUT

from lightning_modules.trainer_data import TrainerData


class EpochMeasure(pl.Callback):
    """A measure of the validation images; of the training images where there are no validation images.

    The sanity check before training is left out. A measure implements `start`, `add` and `finish`; what it is given
    are the outputs of the steps, so that there is no second forward pass.
    """

    def start(self, pl_module: pl.LightningModule) -> None:
        """Reset the counts, on the model's device."""
        raise NotImplementedError

    def add(self, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Any, training: bool) -> None:
        """Add a batch by what its step returned."""
        raise NotImplementedError

    def finish(self, trainer: pl.Trainer, pl_module: pl.LightningModule, training: bool) -> None:
        """Sum over the ranks and log."""
        raise NotImplementedError

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start, where training images stand in for validation images."""
        if not TrainerData(trainer).validates:
            self.start(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Add a batch, where training images stand in for validation images."""
        if not TrainerData(trainer).validates:
            self.add(pl_module, outputs, batch, training=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log, where training images stand in for validation images."""
        if not TrainerData(trainer).validates:
            self.finish(trainer, pl_module, training=True)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start."""
        if not trainer.sanity_checking:
            self.start(pl_module)

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
            self.add(pl_module, outputs, batch, training=False)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log."""
        if not trainer.sanity_checking:
            self.finish(trainer, pl_module, training=False)
