"""Loggers beside CSV and W&B: TensorBoard and MLflow, by name."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

from handful.errors import UserError, did_you_mean
from pipelines.config import WandbConfig
from pipelines.loggers import check_wandb, guard
from pipelines.mlflow_run import mlflow_run, tracking_uri
from pipelines.ranks import global_rank

#: What `--loggers` takes; CSV is always there.
LOGGERS = ("wandb", "tensorboard", "mlflow", "csv")

#: The package that each needs.
_NEEDS = {"wandb": "wandb", "tensorboard": "tensorboard", "mlflow": "mlflow-skinny"}


def logger_names(given: str) -> list[str]:
    """The names of loggers, each once.

    Raises:
        UserError: there is no such logger.

    Example:
        >>> logger_names("wandb, tensorboard,wandb")
        ['wandb', 'tensorboard']
    """
    names = list(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    for name in names:
        if name not in LOGGERS:
            hint = did_you_mean(name, LOGGERS)
            raise UserError(f"--loggers: there is no logger {name!r}{hint}; there are {', '.join(LOGGERS)}")
    return names


def check_loggers(names: Sequence[str], dashboard: WandbConfig) -> None:
    """Build what is asked for once, elsewhere, so that what cannot be built ends a run before its first phase.

    Args:
        names: as `logger_names` gives them.
        dashboard: Weights & Biases' options.

    Raises:
        UserError: a package is not installed, a name that W&B does not take, a place or server that MLflow cannot use.
    """
    checks: dict[str, Callable[[], None]] = {
        "wandb": lambda: check_wandb(dashboard), "tensorboard": _check_tensorboard, "mlflow": _check_mlflow,
    }  # fmt: skip
    for name in names:
        if name in checks:
            try:
                checks[name]()
            except ImportError as error:
                needed = _NEEDS[name]
                raise UserError(f"--loggers {name}: pip install {needed}, or leave it out ({error})") from error


def _check_tensorboard() -> None:
    with tempfile.TemporaryDirectory() as folder:
        logger = TensorBoardLogger(folder)
        logger.experiment.add_scalar("check", 0.0)
        logger.experiment.close()


def _check_mlflow() -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        uri = tracking_uri(Path(folder))
        try:
            MlflowClient(uri).search_experiments(max_results=1)
        except (MlflowException, OSError) as error:
            first = " ".join(str(error).split())
            raise UserError(f"--loggers mlflow: {uri} (MLFLOW_TRACKING_URI) cannot be used: {first:.200}") from error


def more_loggers(
    names: Sequence[str], run: str, phase: str, folder: Path, resumed_step: int | None, parameters: dict[str, Any]
) -> list[Logger]:
    """TensorBoard and MLflow for a phase, where they are asked for; a resumed phase continues its run.

    What a resumed phase had logged at the step that it resumes from and later, it logs again, and shows once.

    Args:
        names: as `logger_names` gives them.
        run: name of the pipeline.
        phase: its phase.
        folder: of the phase.
        resumed_step: the step that the phase is resumed from; None where it begins.
        parameters: to be shown.
    """
    makers: dict[str, Callable[[], Logger]] = {
        "tensorboard": lambda: TensorBoardLogger(folder, name="", version="tensorboard", purge_step=resumed_step),
        "mlflow": lambda: mlflow_run(run, phase, folder, resumed_step),
    }
    found = []
    for name in names:
        if name in makers and global_rank() == 0:
            try:
                found.append(makers[name]())
            except Exception as error:  # no answer, no place to write: a logger costs no phase
                rank_zero_warn(f"--loggers {name}: skipped for phase {phase} ({type(error).__name__}: {error})")
    guard(found)
    for logger in found:
        if resumed_step is None or not isinstance(logger, TensorBoardLogger):  # which has them, at step 0
            logger.log_hyperparams(parameters)
    return found
