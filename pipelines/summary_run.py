"""One W&B run for the whole pipeline, beside one per phase: what a person compares and looks at."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image

from handful.errors import UserError
from handful.explain.local import confident_errors, confident_hits, decisions
from handful.report.content import Content
from handful.report.overlays import picture
from handful.text import safe_text
from pipelines.config import Pipeline
from pipelines.loggers import finish_wandb, wandb_logger

#: Examples in the table: errors and right decisions.
ERRORS, RIGHT = 16, 8

#: Side of an example's picture, and of a cell of W, in pixels.
_SIDE, _CELL = 128, 8

#: Phase name of the run.
SUMMARY = "summary"


def log_summary(pipeline: Pipeline, folder: Path, content: Content) -> None:
    """Log stages, weights, path, confusion, examples, the report and the model; a failure is a warning.

    Args:
        pipeline: the run.
        folder: of the run; the report has been written.
        content: what its report was drawn from.
    """
    own = folder / SUMMARY
    try:
        own.mkdir(exist_ok=True)
        logger: Any = wandb_logger(pipeline.wandb, pipeline.name, SUMMARY, own)
        if logger is None:
            return
        _log(logger.experiment, pipeline, folder, content)
    except Exception as error:  # the dashboard is never worth a run
        rank_zero_warn(f"W&B: the summary run: {type(error).__name__}: {error}")
    finally:
        finish_wandb()
        with contextlib.suppress(OSError):
            own.rmdir()  # nothing was written


def _log(run: Any, pipeline: Pipeline, folder: Path, content: Content) -> None:
    import wandb

    stages = content.results.get("stages", {})
    for stage, row in stages.items():
        run.summary.update({f"{stage}/{name}": value for name, value in row.items() if value is not None})
    for phase, seconds in content.results.get("seconds", {}).items():
        run.summary[f"seconds/{phase}"] = seconds
    columns: list[str | int] = list(content.stage_table[0])
    logged: dict[str, Any] = {"stages": wandb.Table(columns, [list(row) for row in content.stage_table[1]])}
    deciding = content.deciding
    if deciding is not None:
        names = [safe_text(name) for name in deciding.names]
        counts = deciding.confusion()
        logged["confusion"] = wandb.Table(["truth", "predicted", "images"], _pairs(names, counts))
        logged["confusion_matrix"] = wandb.Image(heat(counts.double().numpy()))
        if content.few and deciding.used:
            columns = ["class", *(safe_text(content.label(feature)) for feature in deciding.used)]
            rows = [[name, *values] for name, values in zip(names, deciding.weights.tolist(), strict=True)]
            logged["weights_table"] = wandb.Table(columns, rows)
            logged["weights"] = wandb.Image(heat(deciding.weights.numpy()), caption="classes × features, red for")
        if content.dataset is not None and content.inputs is not None:
            logged["examples"] = _examples(content)
    if content.path is not None:
        rows = [
            [name, density, accuracy]
            for name, (x, y) in content.path.accuracy.items()
            for density, accuracy in zip(x, y, strict=True)
        ]
        logged["regularisation_path"] = wandb.Table(["images", "weights per class", "accuracy"], rows)
    run.log(logged)
    _artifacts(run, pipeline, folder, content)


def _artifacts(run: Any, pipeline: Pipeline, folder: Path, content: Content) -> None:
    import wandb

    report = wandb.Artifact(f"{pipeline.name}-report", "report")
    report.add_dir(str(folder / "report"))
    run.log_artifact(report)
    checkpoints = [folder / phase / "best.ckpt" for phase in content.phases]
    found = [path for path in checkpoints if path.is_file()]
    if found:
        model = wandb.Artifact(f"{pipeline.name}-model", "model", metadata=dict(content.results.get("stages", {})))
        model.add_file(str(found[-1]))
        run.log_artifact(model)


def _examples(content: Content) -> Any:
    import wandb

    deciding, images, inputs = content.deciding, content.dataset, content.inputs
    if deciding is None or images is None or inputs is None:
        raise UserError("there are no images to show")
    chosen = [*confident_errors(deciding, ERRORS), *confident_hits(deciding, RIGHT)]
    rows = [
        [
            wandb.Image(picture(inputs.denormalise(one.image), _SIDE)),
            safe_text(one.truth),
            safe_text(one.predicted),
            one.probability,
            one.right,
            ", ".join(f"{content.label(f)} {value:+.2f}" for f, value in list(one.parts.items())[:5]),
        ]
        for one in decisions(deciding, images, chosen, drawn=0)
    ]
    return wandb.Table(["image", "truth", "predicted", "probability", "right", "what tipped it"], rows)


def _pairs(names: list[str], counts: Any) -> list[list[Any]]:
    wrong = counts.clone().fill_diagonal_(0)
    order = wrong.flatten().argsort(descending=True, stable=True)[:200].tolist()
    places = [divmod(place, len(names)) for place in order if wrong.flatten()[place]]
    return [[names[truth], names[predicted], int(wrong[truth, predicted])] for truth, predicted in places]


def heat(values: "np.ndarray[Any, Any]") -> Image.Image:
    """A matrix as a picture: red above zero, blue below, white at zero.

    Example:
        >>> heat(np.array([[1.0, 0.0]])).getpixel((0, 0))
        (200, 50, 45)
    """
    share = np.abs(values)[..., None] / max(float(np.abs(values).max()), 1e-12)
    colour = np.where(values[..., None] >= 0, np.array([200, 50, 45]), np.array([47, 95, 184]))
    pixels = np.rint(255 * (1 - share) + colour * share).astype(np.uint8)
    return Image.fromarray(pixels.repeat(_CELL, 0).repeat(_CELL, 1))
