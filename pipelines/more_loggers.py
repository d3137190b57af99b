"""Loggers beside CSV and W&B: TensorBoard and MLflow, by name."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

from handful.atomic import write_text
from handful.errors import UserError, did_you_mean
from handful.record_files import read_text
from pipelines.loggers import guard
from pipelines.ranks import global_rank

#: What `--loggers` takes; CSV is always there.
LOGGERS = ("wandb", "tensorboard", "mlflow", "csv")

#: The package that each needs, and whether it can be imported tells Lightning.
_NEEDS = {"tensorboard": "tensorboard", "mlflow": "mlflow-skinny"}


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


def more_loggers(names: Sequence[str], run: str, phase: str, folder: Path) -> list[Logger]:
    """TensorBoard and MLflow for a phase, where they are asked for; a resumed phase continues its run.

    Args:
        names: as `logger_names` gives them.
        run: name of the pipeline.
        phase: its phase.
        folder: of the phase.

    Raises:
        UserError: the package of a logger is not installed.
    """
    makers: dict[str, Callable[[], Logger]] = {
        "tensorboard": lambda: TensorBoardLogger(folder, name="", version="tensorboard"),
        "mlflow": lambda: _mlflow(run, phase, folder),
    }
    found = []
    for name in names:
        if name in makers and global_rank() == 0:
            try:
                found.append(makers[name]())
            except ModuleNotFoundError as error:
                raise UserError(f"--loggers {name}: pip install {_NEEDS[name]} ({error})") from error
            except Exception as error:  # no answer, no place to write: a logger costs no phase
                rank_zero_warn(f"--loggers {name}: skipped for phase {phase} ({type(error).__name__}: {error})")
    guard(found)
    return found


def _mlflow(run: str, phase: str, folder: Path) -> MLFlowLogger:
    """A run in the experiment of the pipeline, on the server of MLFLOW_TRACKING_URI or in the run's folder."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # plain files need no database
        uri = (folder.parent / "mlruns").resolve().as_uri()
    kept = folder / "mlflow_id"
    known = read_text(kept).strip() if kept.is_file() else None
    logger = MLFlowLogger(run, run_name=f"{run}-{phase}", tracking_uri=uri, run_id=known, tags={"phase": phase})
    if known is None and logger.run_id is not None:
        write_text(kept, logger.run_id)
    return logger
