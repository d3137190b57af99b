"""Pictures and tables for the phase's folder and for every logger that can take them.

A picture or table that cannot be written, or that a logger refuses, is skipped with a warning, once per reason; the
others get theirs and training is not affected.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from callbacks.mlflow_names import mlflow_name
from handful.atomic import atomic
from handful.report.csv_file import csv_text, write_csv
from handful.report.log_and_skip import attempt
from handful.text import safe_text, shorten

#: Modes of pictures that PNG files and every logger take; others are shown as RGB.
_SHOWN = {"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"}

#: Longest name of a picture or table in characters: W&B's artifacts take 128 with the run's identity.
_LONGEST = 100


def record_name(name: str) -> str:
    r"""Return the name of a picture or table as a path that stays in the phase's folder and that loggers take.

    Example:
        >>> record_name("maps/cam"), record_name("../../maps//cam/"), record_name("/etc\x1b[31m")
        ('maps/cam', 'maps/cam', 'etc\\x1b[31m')
    """
    parts = [safe_text(part).strip() for part in name.split("/")]
    return shorten("/".join(shorten(part, 60) for part in parts if part.strip(".")), _LONGEST) or "unnamed"


def run_folder(trainer: pl.Trainer) -> Path:
    """Return the folder of the running phase."""
    return Path(trainer.default_root_dir)


def epoch_file(trainer: pl.Trainer, name: str, suffix: str) -> Path:
    """Return `<phase>/<name>/epoch_NNN<suffix>`; slashes in the name make folders, none outside of the phase's."""
    return run_folder(trainer) / record_name(name) / f"epoch_{trainer.current_epoch:03d}{suffix}"


def log_image(trainer: pl.Trainer, name: str, image: Image.Image | Path, caption: str | None = None) -> Path | None:
    """Save a picture as `<phase>/<name>/epoch_NNN.png` and hand it to every logger that takes pictures.

    W&B, TensorBoard, MLflow and every logger with a `log_image` like W&B's get it at the step of the last batch, where
    Lightning logs the measures of the same loop.

    Args:
        trainer: the running Trainer.
        name: what the picture shows; slashes make folders.
        image: a PIL image, or the path of a picture that is written already (then nothing is saved again).
        caption: shown beneath the picture by the loggers.

    Returns:
        The picture's path; None where it could not be saved, and on ranks other than zero, which do nothing.
    """
    if not trainer.is_global_zero:
        return None
    name = record_name(name)
    if isinstance(image, Path):
        path: Path | None = image
        opened = attempt(trainer, f"the picture {image}", lambda: _loaded(image))
        if opened is None:
            return None
    else:
        opened = image if image.mode in _SHOWN else image.convert("RGB")
        written = epoch_file(trainer, name, ".png")
        # zlib's fastest level: at its default, writing took as long as the maps
        path = save_file(trainer, written, lambda file: opened.save(file, format="PNG", compress_level=1))
    words = None if caption is None else safe_text(caption)
    _to_loggers(trainer, "picture", name, lambda logger: send_image(logger, step_of(trainer), name, opened, words))
    return path


def log_table(
    trainer: pl.Trainer, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> Path | None:
    """Save a table as `<phase>/<name>/epoch_NNN.csv` and hand it to every logger that takes tables.

    Returns:
        The table's path; None where it could not be saved, and on ranks other than zero, which do nothing.
    """
    if not trainer.is_global_zero:
        return None
    name = record_name(name)
    data = [[_plain(cell) for cell in row] for row in rows]
    path = epoch_file(trainer, name, ".csv")

    def save() -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path, columns, data)
        return path

    saved = attempt(trainer, f"the table {name}", save)
    shown = [[safe_text(cell) if isinstance(cell, str) else cell for cell in row] for row in data]
    names = [safe_text(column) for column in columns]
    _to_loggers(trainer, "table", name, lambda logger: send_table(logger, step_of(trainer), name, names, shown))
    return saved


def save_file(trainer: pl.Trainer, path: Path, write: Callable[[Any], object]) -> Path | None:
    """Write a file of the phase, whole or not at all, and make its folder.

    Args:
        trainer: the running Trainer.
        path: of the file.
        write: given the open binary file.

    Returns:
        The path; None where it could not be written, which is logged.
    """

    def save() -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            write(file)
        return path

    return attempt(trainer, f"the file {path}", save)


def _to_loggers(trainer: pl.Trainer, kind: str, name: str, send: Callable[[Logger], None]) -> None:
    for logger in trainer.loggers:

        def action(logger: Logger = logger) -> None:
            send(logger)

        attempt(logger, f"{type(logger).__name__}: the {kind} {name}", action)


def step_of(trainer: pl.Trainer) -> int:
    """The step at which Lightning logs measures in a hook at the end of a loop: in training that of the last batch."""
    return max(0, trainer.global_step - 1) if trainer.state.fn == "fit" else trainer.global_step


def send_image(logger: Logger, step: int, name: str, image: Image.Image, caption: str | None = None) -> None:
    """Hand a picture to a logger, in the form in which it takes one; one that takes none gets nothing."""
    if isinstance(logger, CSVLogger):
        return
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")
        if caption is not None:
            logger.experiment.add_text(f"{name}/caption", _markdown(caption), step)
        return
    if isinstance(logger, MLFlowLogger):
        if not _has_image(logger, name, step):  # a resumed run may have drawn it before it was stopped
            logger.experiment.log_image(logger.run_id, image.convert("RGB"), key=mlflow_name(name), step=step)
        if caption is not None:
            logger.experiment.log_text(logger.run_id, caption, f"captions/{mlflow_name(name)}/{step:07d}.txt")
        return
    sender = getattr(logger, "log_image", None)
    if callable(sender):
        sender(key=name, images=[image], step=step, **({} if caption is None else {"caption": [caption]}))


def _has_image(logger: MLFlowLogger, name: str, step: int) -> bool:
    """Whether an MLflow run has a picture of this name at this step."""
    kept = "[#~]".join(map(re.escape, mlflow_name(name).split("/")))
    begin = re.compile(rf"images/{kept}[+%]step[+%]{step}[+%]")  # as MLflow names files, here and on a server
    kept_files = logger.experiment.list_artifacts(logger.run_id, "images") or ()  # none while its disk is full
    return any(begin.match(file.path) for file in kept_files)


def send_table(logger: Logger, step: int, name: str, columns: Sequence[str], rows: Sequence[list[Any]]) -> None:
    """Hand a table to a logger, in the form in which it takes one; one that takes none gets nothing."""
    if isinstance(logger, CSVLogger):
        return
    if isinstance(logger, TensorBoardLogger):
        lines = [columns, ["---"] * len(columns), *rows]
        cells = (" | ".join(cell if cell == "---" else _markdown(str(cell)) for cell in line) for line in lines)
        logger.experiment.add_text(name, "\n".join(f"| {line} |" for line in cells), step)
        return
    if isinstance(logger, MLFlowLogger):
        logger.experiment.log_text(logger.run_id, csv_text(columns, rows), f"tables/{mlflow_name(name)}/{step:07d}.csv")
        return
    sender = getattr(logger, "log_table", None)
    if callable(sender):
        if isinstance(logger, WandbLogger):  # its tables have one type per column, and None in any of them
            rows = of_one_type(rows)
        sender(key=name, columns=columns, data=rows, step=step)


def _plain(cell: Any) -> Any:
    """A cell as a number, text or None, which every logger takes; anything else as Python writes it."""
    if isinstance(cell, torch.Tensor | np.ndarray | np.generic) and cell.ndim == 0:
        cell = cell.item()
    return cell if cell is None or isinstance(cell, str | bool | int | float) else str(cell)


def of_one_type(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows for W&B, whose columns hold one type and None: an empty text is None, a mixed column is text.

    Example:
        >>> of_one_type([["wren", 1.5], [2, ""]])
        [['wren', 1.5], ['2', None]]
    """
    columns = [[None if cell == "" else cell for cell in column] for column in zip(*rows, strict=True)]
    for column in columns:
        kinds = {type(cell) for cell in column} - {type(None)}
        if len(kinds) > 1 and kinds != {int, float}:
            column[:] = [None if cell is None else str(cell) for cell in column]
    return [list(row) for row in zip(*columns, strict=True)]


def _markdown(text: str) -> str:
    """Return text in which Markdown finds no markup."""
    return "".join(f"&#{ord(letter)};" if letter in r"\`*_{}[]()<>#+-.!|&~:/$" else letter for letter in text)


def _loaded(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image
