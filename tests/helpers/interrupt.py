"""Callbacks and a start file that end a process as a power cut would."""

import os
import signal

import lightning.pytorch as pl

#: Called at every training batch; `tests.helpers.forked` counts them.
on_batch = lambda: None  # noqa: E731


class KillAt(pl.Callback):
    """A signal at a training batch, where the environment variable HANDFUL_KILL says `MODULE/EPOCH/BATCH[/SIGNAL]`.

    SIGKILL if none is named.
    """

    measures = ()  # it logs nothing

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        on_batch()
        where, _, name = os.environ.get("HANDFUL_KILL", "").partition("/SIG")
        if where == f"{type(pl_module).__name__}/{trainer.current_epoch}/{batch_idx}":
            os.kill(os.getpid(), getattr(signal, f"SIG{name or 'KILL'}"))


class StopAt(pl.Callback):
    """Ask the Trainer to stop at a training batch, as any callback may."""

    def __init__(self, epoch: int, batch: int):
        self.epoch, self.batch = epoch, batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            trainer.should_stop = True
