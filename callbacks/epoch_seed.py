"""Random numbers that do not depend on where a run was interrupted."""

import hashlib

import lightning.pytorch as pl
import torch


class EpochSeed(pl.Callback):
    """Seed torch at the start of every epoch from (seed, epoch, rank).

    Dropout then draws the same random numbers in a resumed run as in an uninterrupted one.

    Args:
        seed: the phase's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed this rank."""
        key = f"{self.seed}/{trainer.current_epoch}/{trainer.global_rank}".encode()
        torch.manual_seed(int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big"))
