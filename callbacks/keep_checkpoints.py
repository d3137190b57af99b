"""Checkpoints of chosen epochs, to examine how the network learnt."""

from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl

from callbacks.records import run_folder


class KeepCheckpoints(pl.Callback):
    """Write `epoch_NNN.ckpt` into the phase's folder after chosen epochs.

    Args:
        epochs: counted from 0; negative ones from the end of the training.
    """

    def __init__(self, epochs: Sequence[int] = (0, -1)) -> None:
        self.epochs = list(epochs)

    @property
    def depends_on_length(self) -> bool:
        """Whether other checkpoints are kept of a longer training."""
        return any(epoch < 0 for epoch in self.epochs)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save; all ranks take part, as strategies require."""
        last = trainer.max_epochs or 0
        wanted = {epoch if epoch >= 0 else last + epoch for epoch in self.epochs}
        if trainer.current_epoch in wanted:
            trainer.save_checkpoint(kept_checkpoint(run_folder(trainer), trainer.current_epoch), weights_only=False)


def kept_checkpoint(folder: Path, epoch: int) -> Path:
    """Path of the checkpoint of an epoch."""
    return folder / f"epoch_{epoch:03d}.ckpt"
