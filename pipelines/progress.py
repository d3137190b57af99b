"""The progress bar of a phase."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar


class PhaseProgressBar(RichProgressBar):
    """Lightning's own bar, with the stage that is tested and without the last letters of a dashboard's run id."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What stands beside the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    @property
    def test_description(self) -> str:
        """What is being tested."""
        return f"Testing {getattr(self.trainer.lightning_module, 'stage', '')}".rstrip()


def with_progress_bar(callbacks: list[pl.Callback], wanted: bool) -> list[pl.Callback]:
    """The callbacks, with a bar where one is wanted and none is among them."""
    if not wanted or any(isinstance(callback, ProgressBar) for callback in callbacks):
        return callbacks
    return [*callbacks, PhaseProgressBar()]
