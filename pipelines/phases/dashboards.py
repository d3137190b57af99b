"""What a phase that trains nothing hands to the dashboards; its own files have it already."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger
from PIL import Image

from callbacks.records import of_one_type, send_image, send_table
from handful.atomic import write_json
from handful.record_files import read_json
from handful.report.log_and_skip import attempt
from pipelines.phases.context import Context

#: The file of a phase with the names of what it shows, by kind: measures, tables, pictures.
SHOWN = "shown.json"


def log_points(context: Context, name: str, points: Iterable[Mapping[str, Any]]) -> None:
    """Log the numbers of each point as `<name>/<key>`, at steps 0, 1, …; other values are left out.

    Args:
        context: of the phase; on rank zero.
        name: of the group of measures.
        points: their values.
    """
    numbers = [
        {f"{name}/{key}": float(value) for key, value in point.items() if _is_number(value)} for point in points
    ]

    def send(logger: Logger) -> None:
        for step, point in enumerate(numbers):
            logger.log_metrics(point, step)

    _each(context, f"the measures of {name}", send)
    _note(context, "measures", sorted({measure for point in numbers for measure in point}))


def log_table(context: Context, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Log a table once; of every column the values of one type."""
    cells = of_one_type([list(row) for row in rows])
    _each(context, f"the table {name}", lambda logger: send_table(logger, 0, name, columns, cells))
    _note(context, "tables", [name])


def log_picture(context: Context, name: str, path: Path) -> None:
    """Log a picture once, where there is one."""
    if not path.is_file():
        return

    def send(logger: Logger) -> None:
        with Image.open(path) as image:
            send_image(logger, 0, name, image.convert("RGB"))

    _each(context, f"the picture {name}", send)
    _note(context, "pictures", [name])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _each(context: Context, what: str, send: Callable[[Logger], None]) -> None:
    for logger in context.trainer.loggers:
        if not isinstance(logger, CSVLogger):
            attempt(logger, f"{type(logger).__name__}: {what}", partial(send, logger))


def _note(context: Context, kind: str, names: Sequence[str]) -> None:
    """Keep the names, from which a workspace makes its panels; a failure is a warning."""
    file = context.folder.path / SHOWN

    def write() -> None:
        known: Any = None
        if file.is_file():
            with contextlib.suppress(ValueError):  # damaged; it is made anew
                known = read_json(file)
        before = known if isinstance(known, dict) else {}
        listed = {one: [*map(str, found)] for one, found in before.items() if isinstance(found, list)}
        write_json(file, listed | {kind: list(dict.fromkeys([*listed.get(kind, []), *names]))})

    attempt(context.trainer, f"{SHOWN} of {context.folder.name}", write)
