"""What Lightning's checkpoints leave out: whether training had ended, and a plateau's pending step."""

import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.connectors import checkpoint_connector

from handful.errors import UserError
from pipelines.processes import lost_process
from pipelines.resumable import (
    NotResumable,
    cannot_be_resumed,
    check_callbacks,
    check_counts,
    check_progress,
    check_resumable,
)

#: The entry of a checkpoint.
KEY = "handful_resume"
#: Where Lightning restores and resumes, and also writes.
_CONNECTOR = checkpoint_connector.__file__


class ExactResume(pl.Callback):
    """Let a resumed training end where the uninterrupted one ends, with the same learning rates.

    Two things happen around the moment at which `last.ckpt` is written, and Lightning stores neither of them:

    * `trainer.should_stop`, which EarlyStopping, a limit of time or any callback has set. A process that was killed
      after its training had stopped early would otherwise train on.
    * the step of a `ReduceLROnPlateau`, which Lightning takes only after the checkpoint of its epoch is written. It is
      taken when training is resumed, with the value that the uninterrupted training used.
    """

    def __init__(self) -> None:
        self._pending: list[float | None] = []
        self._noted: list[dict[str, Any]] | None = None
        self._optimizers = 0

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note both."""
        checkpoint[KEY] = {"should_stop": bool(trainer.should_stop), "plateau": self._waiting(trainer)}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take both back; the training loop ends at once where it had ended."""
        for state in checkpoint["callbacks"].values():
            if isinstance(state, dict) and "best_k_models" in state:
                _forget_files_elsewhere(state)
        noted = checkpoint.get(KEY, {})
        if trainer.state.fn == "fit":
            if not isinstance(checkpoint.get(KEY), Mapping):
                raise NotResumable(f"{KEY} is {type(noted).__name__ if KEY in checkpoint else 'missing'}")
            plateau = noted.get("plateau", [])
            if not isinstance(plateau, list) or not all(x is None or isinstance(x, int | float) for x in plateau):
                raise NotResumable(f"{KEY}.plateau holds no numbers")
            check_progress(checkpoint["loops"].get("fit_loop"), trainer.fit_loop.state_dict())
            check_callbacks(checkpoint["callbacks"], trainer)
            trainer.should_stop = trainer.should_stop or bool(noted.get("should_stop", False))
            self._pending = [None if value is None else float(value) for value in noted.get("plateau", [])]
            self._noted = [dict(state) for state in checkpoint["lr_schedulers"]]
            self._optimizers = len(checkpoint["optimizer_states"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the pending steps, on every rank.

        Raises:
            UserError: the checkpoint lacks the state of an optimizer or a schedule, which Lightning does without.
        """
        if self._noted is not None:
            check_counts(Path(str(trainer.ckpt_path)), self._optimizers, self._noted, trainer)
        self._noted = None
        counted = trainer.fit_loop.epoch_loop.scheduler_progress
        for config, value in zip(trainer.lr_scheduler_configs, self._pending, strict=False):
            if value is not None:
                counted.increment_ready()
                pl_module.lr_scheduler_step(config.scheduler, value)
                counted.increment_completed()
        self._pending = []

    @staticmethod
    def _waiting(trainer: pl.Trainer) -> list[float | None]:
        """By schedule: the value that it is about to be given, None where it is not waiting for one."""
        dues = [
            config.reduce_on_plateau
            and config.interval == "epoch"
            and (trainer.current_epoch + 1) % config.frequency == 0
            for config in trainer.lr_scheduler_configs
        ]
        values = [trainer.callback_metrics.get(str(config.monitor)) for config in trainer.lr_scheduler_configs]
        return [float(value) if due and value is not None else None for value, due in zip(values, dues, strict=True)]


@contextmanager
def restoring(checkpoint: Path | None) -> Iterator[None]:
    """Say in a sentence what a Trainer cannot take back from a checkpoint; errors of the training itself pass.

    Args:
        checkpoint: from which a Trainer resumes in the block; None where training begins.

    Raises:
        UserError: an entry is missing or of another kind.
    """
    if checkpoint is not None:
        check_resumable(checkpoint)
    try:
        yield
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if checkpoint is None or isinstance(error, UserError | torch.OutOfMemoryError) or not _in_restoring(error):
            raise
        if lost_process(error) is not None:
            raise
        said = isinstance(error, NotResumable)
        raise cannot_be_resumed(checkpoint, str(error) if said else f"{type(error).__name__}: {error}") from error


def _in_restoring(error: BaseException) -> bool:
    """Whether an error comes from where Lightning takes back what it has read."""
    codes = (frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(code.co_filename == _CONNECTOR and code.co_name.lstrip("_").startswith("re") for code in codes)


def _forget_files_elsewhere(state: dict[str, Any]) -> None:
    """Take paths that lead out of its folder from the state of a `ModelCheckpoint`, which removes the files it knows.

    Lightning looks at how a path begins, and `..` may follow: a checkpoint from elsewhere could name any file.
    """
    folder = os.path.abspath(str(state.get("dirpath")))

    def inside(path: object) -> bool:
        within = isinstance(path, str) and os.path.abspath(path).startswith(folder + os.sep)
        return within and ".." not in Path(str(path)).parts

    best = state["best_k_models"] if isinstance(state["best_k_models"], dict) else {}
    state["best_k_models"] = {path: score for path, score in best.items() if inside(path)}
    for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
        if name in state and not inside(state[name]):
            state[name] = ""
