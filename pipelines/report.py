"""`python train.py report`: a finished run on one self-contained page."""

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from datamodules.base import HandfulDataModule
from handful.atomic import write_text
from handful.bottleneck.informed import InformedClassifier
from handful.conformal import stratified_halves
from handful.errors import UserError
from handful.explain.deciding import DecidingFeatures
from handful.explain.feature_names import read_feature_names
from handful.images import Inputs
from handful.networks import Classifier
from handful.record_files import read_json
from handful.report.content import Content
from handful.report.curves import Path as RegularisationPath
from handful.report.curves import Series
from handful.report.run_page import run_pages
from handful.report.sections import measures, probe
from handful.report.sections import sets as conformal_section
from lightning_modules import TrainedModule
from pipelines.conformal import FILE as CONFORMAL
from pipelines.conformal import calibrated_sets
from pipelines.finished_run import Run
from pipelines.measures.subject import AnnotatedImages, Options
from pipelines.records import read_metrics, read_table
from pipelines.stored_features import features_of
from pipelines.tables import stage_cells

#: Heads that weigh more features than this are not drawn feature by feature.
FEW = 120

#: The curves that are drawn: panel → how a column of `metrics.csv` begins.
PANELS = {"validation accuracy, %": "val/accuracy", "loss": "val/loss", "diversity@5": "val/diversity@5"}


def report(
    run_dir: str,
    images: int = 4,
    out: str | None = None,
    attributes: str | None = None,
    masks: str | None = None,
) -> Path:
    """Write a run's report: stages and cost, the features that decide, every class, curves, the configuration.

    Args:
        run_dir: folder of the run.
        images: pictures per feature.
        out: folder to write to; RUN_DIR/report if not given.
        attributes: a CSV file of class attributes, first column the class, shares in per cent or in [0, 1]: what each
            feature follows. The toy birds have attributes of their own.
        masks: a folder of masks, KIND/CONCEPT/IMAGE.png: the part that each feature lies on.

    Returns:
        The page.

    Raises:
        UserError: no such run, or none of its phases is finished.
    """
    if images < 1:
        raise UserError(f"--images must be at least 1, not {images}")
    run = Run(run_dir)
    content = content_of(run, images, attributes, masks)
    return write_report(content, Path(out) if out else run.folder / "report")


def write_report(content: Content, folder: Path) -> Path:
    """Write the pages of a report and return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = run_pages(content)
    for name in reversed(pages):  # the first page last, as it links to the others
        write_text(folder / name, pages[name])
    return folder / "index.html"


def content_of(run: Run, images: int = 4, attributes: str | None = None, masks: str | None = None) -> Content:
    """What a run's report is drawn from; the arguments are those of `report`."""
    run.verify()
    phase = run.phase_of()
    module = run.load()
    model = getattr(module, "model", None)
    content = Content(
        title=str(run.config.get("name", run.folder.name)),
        folder=run.folder,
        results=run.results,
        stage_table=stage_cells(run.results.get("stages", {})),
        config=yaml.safe_dump(run.config, sort_keys=False),
        phases=run.phases,
        explained=_called(phase, model),
        images=images,
        curves=_curves(run),
        path=_path(run),
        tradeoff=_tradeoff(run),
        measures=_record(run, "measures/measures.json", measures.is_record, "evaluate"),
        probe=_record(run, "probe/probe.json", probe.is_record, "probe"),
        conformal=_record(run, f"conformal/{CONFORMAL}", conformal_section.is_record, "evaluate --conformal"),
    )
    content.feature_names = read_feature_names(run.folder)
    if isinstance(model, Classifier):
        content.deciding, data = _deciding(module, model, run)
        content.few = model.head.n_features <= FEW
        content.dataset, content.inputs = data.test_dataset, Inputs.of(data)
        known = AnnotatedImages(data, Options(attributes=attributes, masks=masks))
        content.attributes = known.image_attributes if attributes is None else known.class_attributes
        content.parts = known.masks
        _add_sets(content, run, model)
    return content


def _add_sets(content: Content, run: Run, model: Classifier) -> None:
    """The sets that are calibrated for the classifier that decides, and the images that did not calibrate them."""
    record, deciding = content.conformal, content.deciding
    if record is None or deciding is None:
        return
    found = next((name for name in record["stages"] if run.phase_of(name) == run.phase_of()), None)
    methods = [] if found is None else list(record["stages"][found])
    if methods:
        method = "hierarchy" if "hierarchy" in methods else methods[0]
        content.sets = calibrated_sets(run, None, method, model)
        content.measured = stratified_halves(deciding.labels, int(record.get("seed", 0)))[1].tolist()


def _called(phase: str, model: Any) -> str:
    if isinstance(model, InformedClassifier):
        return f"the classifier that phase {phase} explains, as it is without noise"
    return f"phase {phase}"


def _deciding(module: TrainedModule, model: Classifier, run: Run) -> tuple[DecidingFeatures, HandfulDataModule]:
    """What decides, measured on the run's test images."""
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    data = run.datamodule()
    features, labels = features_of(module, model, data, "test")
    return DecidingFeatures(model, features, labels, data.class_names), data


def _curves(run: Run) -> dict[str, Series]:
    """Measures by epoch of the phases that trained."""
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = defaultdict(dict)
    for phase in run.phases:
        rows = read_metrics(run.folder / phase / "metrics.csv", f"give --start_at {phase} to write it again")
        for title, column in PANELS.items():
            points = [(row["epoch"], row[column]) for row in rows if column in row and "epoch" in row]
            if len(points) > 1:
                panels[title][phase] = ([x for x, _ in points], [y for _, y in points])
    return dict(panels)


def _path(run: Run) -> RegularisationPath | None:
    """The regularisation path of the last sparse phase."""
    found = None
    for phase in run.phases:
        rows = _csv(run.folder / phase / "path.csv")
        record = run.folder / phase / "layer.json"
        if not rows or not record.is_file():
            continue
        try:
            layer = read_json(record)
            drawn = [layer.get(name) for name in ("density_before_cut", "features_per_class")]
            if not all(value is None or _is_number(value) for value in drawn):
                raise ValueError("a density that is not a number")
        except (ValueError, AttributeError) as error:
            raise UserError(
                f"{record}: not a record of a sparse layer ({error}); --start_at {phase} writes it again"
            ) from None
        table = run.folder / phase / "path.csv"
        density = _column(rows, "density", table)
        series = {
            title: (density, [100 * value for value in _column(rows, column, table)])
            for title, column in (("training images", "train_accuracy"), ("held-out images", "val_accuracy"))
            if all(row.get(column) for row in rows)
        }
        if series:
            found = RegularisationPath(density, series, *drawn)
    return found


def _column(rows: Sequence[Mapping[str, Any]], name: str, path: Path) -> list[float]:
    """A column of numbers.

    Raises:
        UserError: a cell is not a number.
    """
    values = []
    for place, row in enumerate(rows):
        try:
            values.append(float(row.get(name, "")))
        except (TypeError, ValueError):
            raise UserError(
                f"{path}: row {place + 1} has no number in column {name}, but {row.get(name)!r}; "
                f"--start_at {path.parent.name} writes it again"
            ) from None
    return values


def _tradeoff(run: Run) -> dict[str, Any] | None:
    """The trade-off of the weights that the run has now."""
    return _record(run, "tradeoff/tradeoff.json", _is_tradeoff, "tradeoff")


def _record(run: Run, name: str, is_one: Callable[[Any], bool], command: str) -> dict[str, Any] | None:
    """What a command has written about the weights that the run has now; another file is left out with a warning."""
    path = run.folder / name
    if not path.is_file():
        return None
    try:
        record = read_json(path)
    except ValueError:
        record = None
    if not is_one(record):
        warnings.warn(f"{path}: not a record of {command}, so the report leaves it out", stacklevel=2)
        return None
    current = all(phase in run.phases and run.made_of(phase) == made for phase, made in record["made_from"].items())
    return record if current else None


def _is_tradeoff(record: Any) -> bool:
    """Whether JSON from a file has what the figure needs."""
    if not isinstance(record, dict) or not isinstance(record.get("made_from"), dict):
        return False
    sizes = record.get("sizes")
    return (
        _has_numbers(record.get("dense"), "accuracy", "n_features")
        and isinstance(sizes, list)
        and bool(sizes)
        and all(_has_numbers(row, "n_features", "features_per_class", "test_accuracy") for row in sizes)
    )


def _has_numbers(row: Any, *names: str) -> bool:
    return isinstance(row, dict) and all(_is_number(row.get(name)) for name in names)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _csv(path: Path) -> list[dict[str, str]]:
    return read_table(path, f"give --start_at {path.parent.name} to write it again")
