"""The Trainer of a phase: fresh, with callbacks and loggers of its own."""

import inspect
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.model_helpers import is_overridden

from callbacks.epoch_seed import EpochSeed
from handful.cores import has_bf16
from handful.errors import UserError
from handful.threads import use_the_cores
from lightning_modules.checkpoints import AtomicCheckpointIO
from lightning_modules.schedules import better
from pipelines.build import build_callbacks
from pipelines.config import PhaseConfig, Pipeline
from pipelines.exact_resume import ExactResume
from pipelines.launcher import watch_processes
from pipelines.loggers import csv_logger, wandb_logger
from pipelines.monitors import OF_VALIDATION
from pipelines.more_loggers import logger_names, more_loggers
from pipelines.phase_folder import PhaseFolder
from pipelines.process_state import OF_CUBLAS, process_kept
from pipelines.progress import with_progress_bar
from pipelines.resumable import step_of
from pipelines.sync_batchnorm import synchronised
from pipelines.trainer_arguments import on_cuda

#: Rank zero may solve for long while the others wait; Lightning's own limit is half an hour.
PATIENCE = timedelta(days=2)


def build_trainer(
    pipeline: Pipeline,
    phase: PhaseConfig,
    folder: PhaseFolder,
    seed: int,
    resume: Path | None,
    validates: bool,
    parameters: dict[str, Any],
    all_images: bool = False,
) -> pl.Trainer:
    """The Trainer of a phase.

    Args:
        pipeline: the run.
        phase: the phase.
        folder: of the phase.
        seed: of the phase.
        resume: the checkpoint that it resumes from.
        validates: whether there are validation images.
        parameters: shown by the dashboard.
        all_images: whether evaluation sees all images, also where a trial run limits the number of batches.
    """
    arguments = {**pipeline.trainer, **phase.trainer}
    if all_images:
        arguments["limit_val_batches"] = 1.0
    if arguments.get("strategy", "auto") in ("auto", "ddp") and _several_processes(arguments):
        arguments["strategy"] = DDPStrategy(timeout=PATIENCE)
    step = None if resume is None else step_of(resume)
    loggers: list[Logger] = [csv_logger(folder.path, step)]
    names = logger_names(pipeline.loggers)
    dashboard = wandb_logger(pipeline.wandb, pipeline.name, folder.name, folder.path) if "wandb" in names else None
    loggers += more_loggers(names, pipeline.name, folder.name, folder.path, step, parameters)
    if dashboard is not None:
        dashboard.log_hyperparams(parameters)
        loggers.append(dashboard)
    trainer = _trainer(arguments, phase, folder, seed, validates, loggers)
    watch_processes(trainer)
    return trainer


def _trainer(
    arguments: Mapping[str, Any],
    phase: PhaseConfig,
    folder: PhaseFolder,
    seed: int,
    validates: bool,
    loggers: Sequence[Logger],
) -> pl.Trainer:
    """A Trainer with a phase's callbacks and loggers; nothing is written yet."""
    shows = arguments.get("enable_progress_bar", True)
    arguments = synchronised({**arguments, "plugins": [AtomicCheckpointIO()]})
    return pl.Trainer(
        **{
            "max_epochs": phase.max_epochs,
            "num_sanity_val_steps": 0,
            "enable_model_summary": False,
            "log_every_n_steps": 10,
            "use_distributed_sampler": False,
            # kernels of CUDA add up in any order unless deterministic ones are asked for
            **({"deterministic": "warn"} if on_cuda(arguments) else {}),
            **arguments,
        },
        default_root_dir=folder.path,
        logger=list(loggers),
        callbacks=[
            EpochSeed(seed),
            ExactResume(),
            *_checkpoints(folder.path, phase, validates),
            *with_progress_bar(_observers_first(build_callbacks(phase.callbacks)), shows),
        ],
    )


def share_the_cores(trainer: pl.Trainer) -> None:
    """Give torch the cores that are there for each process of a Trainer; beside a GPU, one process has them all."""
    use_the_cores(trainer.num_devices if trainer.strategy.root_device.type == "cpu" else 1)


def try_trainer(key: str, pipeline: Pipeline, phase: PhaseConfig, folder: PhaseFolder) -> int:
    """Build a phase's Trainer with its callbacks, for its complaints; nothing is written.

    Returns:
        The number of processes it would run on.

    Raises:
        UserError: it refuses its arguments.
    """
    arguments = {**pipeline.trainer, **phase.trainer}
    try:
        logger = CSVLogger(folder.path.parent, name=folder.name, version="")
        with process_kept(OF_CUBLAS):  # what it sets is not there for the phases
            trainer = _trainer(arguments, phase, folder, seed=0, validates=True, loggers=[logger])
    except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{key}: the Trainer refuses its arguments: {' '.join(str(error).split())}") from error
    slow = str(trainer.precision).startswith("bf16") and has_bf16() is False
    if slow and trainer.strategy.root_device.type == "cpu":
        rank_zero_warn(
            f"{key}: precision {trainer.precision}: this processor has no bf16 instructions and computes it many times "
            "slower than 32-true"
        )
    return trainer.num_devices * trainer.num_nodes


def check_callbacks(key: str, phase: PhaseConfig, callbacks: Sequence[pl.Callback]) -> None:
    """Refuse callbacks whose state a checkpoint could not keep apart from that of another.

    Raises:
        UserError: names the first.
    """
    ours = {callback.state_key for callback in _checkpoints(Path(), phase, validates=True)}
    seen: set[str] = set()
    for callback in callbacks:
        if not is_overridden("state_dict", callback):
            continue
        name = type(callback).__name__
        if callback.state_key in ours:
            raise UserError(
                f"{key}.callbacks: {name}: a phase keeps last.ckpt and best.ckpt itself; leave it out, or give it "
                "another monitor"
            )
        if callback.state_key in seen:
            raise UserError(f"{key}.callbacks: {name} is given twice with the same arguments")
        seen.add(callback.state_key)


def check_trainer(key: str, arguments: Mapping[str, Any]) -> None:
    """Refuse what a Trainer would not take, and strategies that lose what a phase hands over."""
    ours = {"self", "callbacks", "logger", "default_root_dir", "max_epochs", "plugins", "fast_dev_run"}
    known = set(inspect.signature(pl.Trainer.__init__).parameters) - ours
    for name in arguments:
        if name not in known:
            raise UserError(f"{key}.{name}: not an argument of the Trainer that a pipeline can set")
        if key != "trainer" and name in ("devices", "num_nodes", "accelerator", "strategy"):
            raise UserError(f"{key}.{name}: all phases run on the same processes; set trainer.{name}")
    precision = str(arguments.get("precision", "32-true"))
    precision = {"64": "64-true", "32": "32-true"}.get(precision, precision)
    if precision.endswith("-true") and precision != "32-true":
        raise UserError(
            f"{key}.precision: {precision} keeps the weights themselves in it, which the sparse layer and the reported "
            f"numbers need in float32; take {precision.replace('true', 'mixed')}"
            if precision != "64-true"
            else f"{key}.precision: the networks compute in float32; take 32-true"
        )
    strategy = str(arguments.get("strategy", "auto"))
    if "fork" in strategy or "spawn" in strategy or "notebook" in strategy:
        raise UserError(f"{key}.strategy: {strategy} loses what a phase hands over; use ddp")


def _several_processes(arguments: Mapping[str, Any]) -> bool:
    """Whether the Trainer would start more than one process."""
    devices = arguments.get("devices", "auto")
    if int(arguments.get("num_nodes", 1)) > 1 or isinstance(devices, list):
        return int(arguments.get("num_nodes", 1)) > 1 or len(devices) > 1
    if str(devices) in ("auto", "-1"):
        return arguments.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.device_count() > 1
    return str(devices).count(",") > 0 or int(devices) > 1


class PhaseCheckpoint(ModelCheckpoint):
    """Lightning's, for a folder that may have been moved between two attempts: the best epoch so far stays known."""

    @property
    def state_key(self) -> str:
        """As Lightning's own, under which older runs stored it."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state back, its files where they lie now."""
        super().load_state_dict(moved(state_dict, str(state_dict.get("dirpath")), str(self.dirpath)))


def moved(value: Any, old: str, new: str) -> Any:
    """Plain values in which every path in the folder `old` lies in `new`."""
    if isinstance(value, dict):
        return {moved(key, old, new): moved(item, old, new) for key, item in value.items()}
    if isinstance(value, str) and (value == old or value.startswith(old + os.sep)):
        return new + value[len(old) :]
    return value


def _checkpoints(folder: Path, phase: PhaseConfig, validates: bool) -> list[pl.Callback]:
    """`last.ckpt` after every epoch, and `best.ckpt` by the measure that is watched where that is measured."""
    last = PhaseCheckpoint(
        dirpath=folder, filename="last", save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    best = PhaseCheckpoint(
        dirpath=folder,
        filename="best",
        save_top_k=1,
        monitor=phase.monitor,
        mode=better(phase.monitor),
        enable_version_counter=False,
    )
    return [best, last] if validates or not phase.monitor.startswith(OF_VALIDATION) else [last]


def _observers_first(callbacks: list[pl.Callback]) -> list[pl.Callback]:
    """Averages of weights last: at the end of validation they take back the weights that the others look at."""
    return sorted(callbacks, key=lambda callback: isinstance(callback, WeightAveraging))
