"""The loggers of a phase: CSV always, Weights & Biases on request. Their errors never end a phase."""

import contextlib
import csv
import os
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import _DummyExperiment
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from handful.atomic import atomic
from handful.errors import UserError, did_you_mean
from handful.report.csv_file import csv_text
from handful.report.log_and_skip import attempt
from pipelines.config import WandbConfig
from pipelines.logger_room import AT_THE_END, check_folder, check_room
from pipelines.ranks import global_rank
from pipelines.run_folder import wandb_id
from pipelines.wandb_sweep import in_sweep, leave_sweep

#: What the Trainer calls of a logger while a phase runs.
_CALLED = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint")

#: The W&B run of the phase that runs; any other of the process is somebody else's.
_begun: list[Any] = []

#: What WANDB_MODE may be; `dryrun` is an old name of `offline`, `run` of `online`.
_MODES = ("auto", "online", "offline", "disabled", "dryrun", "run", "shared")


def guard(loggers: Sequence[Logger]) -> None:
    """Let the errors of loggers be logged and skipped, once per logger and reason, instead of ending a phase.

    Each becomes an instance of a subclass of its own class, so that `isinstance` still holds. Where the experiment
    itself cannot be had, its place is taken by Lightning's own that does nothing.
    """
    for logger in loggers:
        kind = type(logger)
        called = {name: _guarded(getattr(kind, name)) for name in _CALLED}
        logger.__class__ = type(kind.__name__, (kind,), {**called, "experiment": property(_experiment)})


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(logger: Logger, *args: Any, **kwargs: Any) -> Any:
        what = f"{type(logger).__name__}: what {method.__name__} should have kept"
        return attempt(logger, what, lambda: method(logger, *args, **kwargs))

    return call


def _experiment(logger: Logger) -> Any:
    parent: Any = type(logger).__mro__[1]

    def experiment() -> Any:
        check_room(logger)
        return parent.experiment.__get__(logger)

    found = attempt(logger, f"{type(logger).__name__}: what was logged", experiment)
    return _DummyExperiment() if found is None else found


class _MetricsFile(ExperimentWriter):
    """Lightning's writer of `metrics.csv`, but what the file holds is never deleted and never half rewritten.

    Rows that found no room are written when there is some.
    """

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self._whole = 0
        path = Path(self.metrics_file_path)
        if path.is_file():
            self.metrics_keys = _columns(path)

    def _check_log_dir_exists(self) -> None:
        """Lightning's deletes the rows of the training that is resumed."""

    def save(self) -> None:
        """Append what was logged; a disk that is full keeps no half of a row, and no header of columns to come."""
        path, columns = Path(self.metrics_file_path), list(self.metrics_keys)
        self._whole = path.stat().st_size if path.is_file() else 0
        try:
            super().save()
        except OSError:
            if path.is_file():
                os.truncate(path, self._whole)
                self.metrics_keys = columns if self._whole == 0 else _columns(path)
            raise

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        _write_rows(path, fieldnames, _rows(path))
        self._whole = path.stat().st_size


def csv_logger(folder: Path, resumed_step: int | None) -> CSVLogger:
    """Log to `metrics.csv` in the phase's folder; a resumed phase keeps the rows up to the step it resumes from."""
    logger = CSVLogger(folder.parent, name=folder.name, version="")
    if global_rank() == 0:
        file = folder / "metrics.csv"
        if resumed_step is None:
            attempt(logger, f"removing the former {file}", lambda: file.unlink(missing_ok=True))
        else:
            attempt(logger, f"keeping the rows of {file}", lambda: _keep_rows(file, resumed_step))
        logger._experiment = _MetricsFile(str(folder))
    guard([logger])
    return logger


def _keep_rows(file: Path, before: int) -> None:
    """Drop the rows from a step on, which the resumed training logs again, and rows that were cut short."""
    if file.is_file():
        rows = [row for row in _rows(file) if _whole(row) and int(row["step"]) < before]
        _write_rows(file, list(rows[0]) if rows else [], rows)
        if not rows:
            file.unlink()


def _columns(file: Path) -> list[str]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream).fieldnames or [])


def _whole(row: dict[str, Any]) -> bool:
    return None not in row and None not in row.values() and str(row.get("step", "")).isdigit()


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _write_rows(file: Path, columns: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    with atomic(file) as stream:
        stream.write(csv_text(columns, [[row.get(column, "") for column in columns] for row in rows]).encode())


def check_wandb(config: WandbConfig) -> None:
    """Refuse what W&B would refuse when a phase begins.

    Raises:
        UserError: names the option.
        ImportError: W&B is not installed.
    """
    mode = (os.environ.get("WANDB_MODE") or "auto") if config.mode == "auto" else config.mode
    if mode not in _MODES:
        raise UserError(f"WANDB_MODE: {mode!r} is none of {', '.join(_MODES)}{did_you_mean(mode, _MODES)}")
    if mode == "disabled":
        return
    import wandb

    try:
        wandb.Settings(project=config.project, entity=config.entity)
    except (wandb.errors.UsageError, ValueError) as error:
        raise UserError(f"wandb.project, wandb.entity: {' '.join(str(error).split()):.200}") from error


def wandb_logger(
    config: WandbConfig, run: str, phase: str, folder: Path, of_sweep: bool = False
) -> Logger | None:
    """One W&B run for the phase, in the group of the pipeline; a resumed phase continues its run.

    Online where somebody is logged in, otherwise offline, without a question.

    Args:
        config: project, owner and mode.
        run: name of the pipeline.
        phase: its phase.
        folder: of the phase.
        of_sweep: whether this is the run that a sweep looks at, where W&B's agent started the process.
    """
    leave_sweep()
    mode = _mode(config)
    if mode == "disabled" or global_rank() != 0:
        return None
    finish_wandb()
    if mode == "offline":
        rank_zero_info(f"W&B: offline; `wandb sync --append {folder / 'wandb'}/offline-run-*` uploads the run")
    for attempted, otherwise in ((mode, "offline instead"), ("offline", "this phase is not logged to W&B")):
        try:
            with in_sweep() if of_sweep else contextlib.nullcontext(False) as chosen:
                identity = None if chosen else wandb_id(folder)
                logger = _logger(config, run, phase, folder, identity, attempted)
        except Exception as error:  # no network, a key that is refused, no leave to write: never worth a run
            rank_zero_warn(f"W&B: {type(error).__name__}: {error}; {otherwise}")
        else:
            guard([logger])
            return logger
    return None


def _logger(
    config: WandbConfig, run: str, phase: str, folder: Path, identity: str | None, mode: str
) -> WandbLogger:
    """The logger of a run that is started here: Lightning would pass on an option that wandb warns of.

    Without an identity it is the run that a sweep has chosen, in the sweep's project.
    """
    import wandb

    begun = wandb.init(
        name=f"{run}-{phase}",
        project=config.project if identity else None,
        entity=config.entity if identity else None,
        group=run,
        job_type=phase,
        dir=folder,
        id=identity,
        resume="allow",
        mode=mode,  # type: ignore[arg-type]
        settings=wandb.Settings(silent=True, console="off"),
        # W&B would hand out a run that is open, or close it, whatever is asked for
        reinit="default" if wandb.run is None else "create_new",
    )
    _begun.append(begun)
    begun.define_metric("trainer/global_step")
    begun.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(experiment=begun, project=config.project, save_dir=folder, id=identity)


def _mode(config: WandbConfig) -> str:
    if config.mode != "auto":
        return config.mode
    if os.environ.get("WANDB_MODE"):
        return {"dryrun": "offline", "run": "online"}.get(os.environ["WANDB_MODE"], os.environ["WANDB_MODE"])
    import wandb

    try:
        return "online" if wandb.login(prompt=False) else "offline"
    except Exception:  # no network, a broken key file: the dashboard is never worth a run
        return "offline"


def finish_wandb() -> None:
    """Close the W&B run of a phase, so that the next phase gets one of its own; a run of the user's stays open."""
    while _begun:
        run = _begun.pop()
        attempt(run, "W&B: the end of the run", run.finish)
        attempt(run, "W&B: what was logged last", partial(check_folder, run.dir, AT_THE_END))
