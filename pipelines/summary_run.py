"""One run for the whole pipeline, beside one per phase, in every logger: what a person compares and looks at."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.records import of_one_type, send_image, send_table
from handful.atomic import write_json
from handful.report.content import Content
from handful.report.csv_file import csv_text
from pipelines.config import Pipeline
from pipelines.lightning_config import pipeline_config
from pipelines.loggers import finish_wandb, wandb_logger
from pipelines.more_loggers import logger_names, more_loggers
from pipelines.summary_content import Summary, summarise

#: Phase name of the run.
SUMMARY = "summary"

#: File in its folder: the names of what it shows, for those who look at it elsewhere (`pipelines.workspace`).
SHOWN = "shown.json"


def log_summary(pipeline: Pipeline, folder: Path, content: Content) -> None:
    """Log stages, weights, path, confusion, examples, the report and the model; a failure is a warning.

    Args:
        pipeline: the run.
        folder: of the run; the report has been written.
        content: what its report was drawn from.
    """
    own = folder / SUMMARY
    kinds: dict[str, Callable[[Summary], None]] = {
        "wandb": lambda summary: _to_wandb(pipeline, folder, summary),
        "tensorboard": lambda summary: _to_others(pipeline, folder, "tensorboard", summary),
        "mlflow": lambda summary: _to_others(pipeline, folder, "mlflow", summary),
    }
    for name in logger_names(pipeline.loggers):
        if name not in kinds:
            continue
        try:
            own.mkdir(exist_ok=True)
            summary = summarise(content)
            kinds[name](summary)
            if any(own.iterdir()):
                write_json(own / SHOWN, {"tables": list(summary.tables), "pictures": list(summary.pictures)})
        except Exception as error:  # the dashboard is never worth a run
            rank_zero_warn(f"--loggers {name}: the summary run: {type(error).__name__}: {error}")
        finally:
            finish_wandb()
            with contextlib.suppress(OSError):
                own.rmdir()  # nothing was written


def _model(pipeline: Pipeline, folder: Path) -> Path | None:
    """The checkpoint of the last phase that left one."""
    found = [folder / phase / "best.ckpt" for phase in pipeline.phases]
    return next((path for path in reversed(found) if path.is_file()), None)


def _to_wandb(pipeline: Pipeline, folder: Path, summary: Summary) -> None:
    logger: Any = wandb_logger(pipeline.wandb, pipeline.name, SUMMARY, folder / SUMMARY, of_sweep=True)
    if logger is None:
        return
    import wandb

    logger.log_hyperparams(pipeline_config(pipeline))
    run = logger.experiment
    run.summary.update(summary.numbers)
    logged: dict[str, Any] = {name: wandb.Image(image) for name, image in summary.pictures.items()}
    for name, table in summary.tables.items():
        columns: list[str | int] = list(table.columns)
        rows = of_one_type(table.rows)
        if name == "examples":
            columns = ["image", *columns]
            rows = [[wandb.Image(image), *row] for image, row in zip(summary.examples, rows, strict=True)]
        logged[name] = wandb.Table(columns, rows)
    run.log(logged)
    report = wandb.Artifact(f"{pipeline.name}-report", "report")
    report.add_dir(str(folder / "report"))
    run.log_artifact(report)
    if (checkpoint := _model(pipeline, folder)) is not None:
        model = wandb.Artifact(f"{pipeline.name}-model", "model", metadata=dict(summary.numbers))
        model.add_file(str(checkpoint))
        run.log_artifact(model)


def _to_others(pipeline: Pipeline, folder: Path, name: str, summary: Summary) -> None:
    """TensorBoard shows the last summary only, and MLflow keeps one of each picture and table."""
    first = 0 if (folder / SUMMARY / name).is_dir() else None
    parameters = pipeline_config(pipeline)
    for logger in more_loggers([name], pipeline.name, SUMMARY, folder / SUMMARY, first, parameters):
        pictures = dict(summary.pictures) | ({} if summary.sheet is None else {"examples": summary.sheet})
        if isinstance(logger, MLFlowLogger):
            client, run = logger.experiment, logger.run_id
            known = client.get_run(run).data.metrics
            logger.log_metrics({key: value for key, value in summary.numbers.items() if known.get(key) != value}, 0)
            for key, image in pictures.items():
                client.log_image(run, image, f"{key}.png")
            for key, table in summary.tables.items():
                client.log_text(run, csv_text(table.columns, table.rows), f"{key}.csv")
            client.log_artifacts(run, str(folder / "report"), "report")
            if (checkpoint := _model(pipeline, folder)) is not None:
                client.log_artifact(run, str(checkpoint), "model")
        else:
            logger.log_metrics(summary.numbers, 0)
            for key, image in pictures.items():
                send_image(logger, 0, key, image)
            for key, table in summary.tables.items():
                send_table(logger, 0, key, table.columns, table.rows)
        logger.finalize("success")
