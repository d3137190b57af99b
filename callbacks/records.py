"""One small way for pictures and tables to reach the run's folder and every logger that takes them."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import Logger
from PIL import Image


def run_folder(trainer: pl.Trainer) -> Path:
    """The folder of the running phase."""
    return Path(trainer.default_root_dir)


def _stem(trainer: pl.Trainer, name: str) -> str:
    return f"{name}/epoch_{trainer.current_epoch:03d}"


def log_image(trainer: pl.Trainer, name: str, image: Image.Image | Path, caption: str | None = None) -> Path | None:
    """Save a picture as `<phase>/<name>/epoch_NNN.png` and hand it to every logger that takes pictures.

    Args:
        trainer: the running Trainer.
        name: what the picture shows; slashes make folders.
        image: a PIL image, or the path of a picture that is written already (then nothing is saved again).
        caption: shown beneath the picture by the loggers.

    Returns:
        The picture's path; None on ranks other than zero, which do nothing.
    """
    if not trainer.is_global_zero:
        return None
    if isinstance(image, Path):
        path = image
    else:
        path = run_folder(trainer) / f"{_stem(trainer, name)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    for logger in _taking(trainer, "log_image"):
        logger.log_image(
            key=name, images=[str(path)], step=trainer.global_step, caption=None if caption is None else [caption]
        )
    return path


def log_table(
    trainer: pl.Trainer, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> Path | None:
    """Save a table as `<phase>/<name>/epoch_NNN.csv` and hand it to every logger that takes tables.

    Returns:
        The table's path; None on ranks other than zero, which do nothing.
    """
    if not trainer.is_global_zero:
        return None
    data = [list(row) for row in rows]
    path = run_folder(trainer) / f"{_stem(trainer, name)}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(data)
    for logger in _taking(trainer, "log_table"):
        logger.log_table(key=name, columns=list(columns), data=data, step=trainer.global_step)
    return path


def _taking(trainer: pl.Trainer, method: str) -> list[Any]:
    """The loggers that have a method; W&B's has both, CSV's neither."""
    loggers: list[Logger] = trainer.loggers
    return [logger for logger in loggers if callable(getattr(logger, method, None))]
