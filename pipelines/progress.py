"""The progress bar of a phase: Lightning's loops, drawn as everything else is."""

import math
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar

from handful.progress import ProgressBar


class PhaseProgressBar(LightningProgressBar):
    """One bar over all batches of training, and one over each pass of validation, test and prediction.

    Where there is no terminal, one line says at the end what was done and how long it took.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: ProgressBar | None = None

    def disable(self) -> None:
        """Draw nothing from now on."""
        self._enabled = False

    def enable(self) -> None:
        """Draw again."""
        self._enabled = True

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What stands beside the bar; without the last letters of a dashboard's run id."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    # -- training: one bar for all epochs -------------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the bar."""
        epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
        batches = float(trainer.num_training_batches)
        total = epochs * batches if epochs > 0 else float(trainer.max_steps if trainer.max_steps > 0 else math.inf)
        self._begin(total - trainer.current_epoch * batches, "training")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Name the epoch."""
        self._name_epoch(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Count a batch."""
        self._count(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the bar."""
        self._end()

    # -- validation, test and prediction: a bar each; within training its bar waits ---------------------------------

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a bar, or let the one of training say that it waits."""
        if trainer.state.fn == "fit":
            self._say("validating")
        else:
            self._begin(_total(trainer.num_val_batches), getattr(pl_module, "doing", "validating"))

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Count a batch."""
        if trainer.state.fn != "fit":
            self._count(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the bar; within training, show what was measured."""
        if trainer.state.fn == "fit":
            self._name_epoch(trainer)
        else:
            self._end()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a bar that names the stage."""
        stage = getattr(pl_module, "stage", "")
        self._begin(_total(trainer.num_test_batches), f"testing {stage}".rstrip())

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Count a batch."""
        self._count(trainer, pl_module)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the bar."""
        self._end()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a bar."""
        self._begin(_total(trainer.num_predict_batches), "predicting")

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Count a batch."""
        self._count(trainer, pl_module)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the bar."""
        self._end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Wipe the bar, so that what is said of the error stands on a line of its own."""
        self._end(finished=False)

    # -- the bar itself -----------------------------------------------------------------------------------------------

    def _begin(self, total: float, description: str) -> None:
        self._end(finished=False)
        if self._enabled:
            self._bar = ProgressBar(total if math.isfinite(total) else None, description, "batches")

    def _count(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is None:
            return
        if self._bar.wants_values():  # reading a value may wait for the GPU
            self._bar.say(**self.get_metrics(trainer, pl_module))
        self._bar.update()

    def _name_epoch(self, trainer: pl.Trainer) -> None:
        last = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        self._say(f"epoch {trainer.current_epoch + 1}{last}")

    def _say(self, description: str) -> None:
        if self._bar is not None:
            self._bar.say(description)

    def _end(self, finished: bool = True) -> None:
        if self._bar is not None:
            self._bar.close(finished)
        self._bar = None


def _total(batches: Any) -> float:
    """Batches of all loaders."""
    return float(sum(batches)) if isinstance(batches, list) else float(batches)


def with_progress_bar(callbacks: list[pl.Callback], wanted: bool) -> list[pl.Callback]:
    """The callbacks, with a bar where one is wanted and none is among them."""
    if not wanted or any(isinstance(callback, LightningProgressBar) for callback in callbacks):
        return callbacks
    return [*callbacks, PhaseProgressBar()]
