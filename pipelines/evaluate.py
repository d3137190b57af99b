"""`python train.py evaluate`: what can be said in numbers of a run's stages, beside their accuracy."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from handful.atomic import write_json
from handful.errors import UserError
from handful.explain.explainer import method_names
from handful.networks import Classifier
from handful.text import safe_text
from lightning_modules import TrainedModule
from pipelines.conformal import conformal_sets
from pipelines.finished_run import Run
from pipelines.measures import Measure, Options, Subject, chosen_measures
from pipelines.measures.run import measured
from pipelines.measures.subject import CALLED, HOW_TO_GIVE, AnnotatedImages
from pipelines.output_folder import output_folder
from pipelines.tables import format_table

#: What is measured where nothing is named.
DEFAULT = "features"

#: Digits after the point in the file: those that float32 sums of other batches leave as they are.
DIGITS = 6


def evaluate(
    run_dir: str,
    measures: list[str] | str = DEFAULT,
    stages: list[str] | str | None = None,
    split: Literal["train", "val", "test"] = "test",
    images: int | None = None,
    attributes: str | None = None,
    masks: str | None = None,
    out: str | None = None,
    seed: int = 0,
    methods: list[str] | str = "gradcam",
    conformal: float | None = None,
    per_class: bool = False,
) -> Path:
    """Measure how readable the stages of a run are.

    Writes `measures.json` and prints a table, a row per measure and a column per stage. What needs annotations that
    the images do not have is named and left out.

    Args:
        run_dir: folder of the run.
        measures: names of measures or of groups of them, as a list or with commas between; "all" for every one.
        stages: stages or phases of the run, as a list or with commas between; all that hold a classifier if not given.
        split: the split whose images are measured.
        images: at most so many, spread evenly over the split; all if not given.
        attributes: CSV file of the classes' attributes: first column the class, the others the share of its images
            that have the attribute.
        masks: folder of masks: KIND/CONCEPT/IMAGE.png.
        out: folder to write to; RUN_DIR/measures if not given.
        seed: of the random numbers.
        methods: attribution methods whose maps are measured, as a list or with commas between.
        conformal: instead of measures, unless these are named: sets of classes that hold the true one for this share
            of images, calibrated on one half of the test images and measured on the other, in `conformal.json`.
        per_class: whether that share holds for every class by itself.

    Returns:
        The file.

    Raises:
        UserError: no such run, stage or measure; a file of annotations that cannot be read; no folder to write to.
    """
    names = measures if isinstance(measures, str) else ",".join(measures)
    chosen = chosen_measures(names)  # refused before anything is read
    explained = tuple(method_names(methods))
    if images is not None and images < 1:
        raise UserError(f"--images must be at least 1, not {images}")
    run = Run(run_dir)
    subjects = _classifiers(run, stages)
    data = run.datamodule()
    if conformal is not None:
        if not 0 < conformal < 1:
            raise UserError(f"--conformal: a coverage between 0 and 1, not {conformal:g}")
        of_sets = output_folder(out, run.folder / "conformal")
        known = AnnotatedImages(data, Options(attributes=attributes, seed=seed))
        written = conformal_sets(run, subjects, known, conformal, of_sets, per_class)
        if names == DEFAULT:
            return written
    folder = output_folder(out, run.folder / "measures")
    if split not in data.splits:
        raise UserError(f"--split: this run has no {split} images; there are {', '.join(data.splits)}")
    looked_at = AnnotatedImages(data, Options(split, images, attributes, masks, seed, explained))
    left_out = _left_out(chosen, looked_at)
    able = [cls for cls in chosen if cls.name not in left_out]
    rows: dict[str, dict[str, float | None]] = {}
    details: dict[str, dict[str, Any]] = {}
    for stage, (module, model) in subjects.items():
        model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        found = measured(module, Subject(stage, model, looked_at), able)
        rows[stage] = {name: _rounded(value) for one in found.values() for name, value in one.values.items()}
        details[stage] = {name: _defined(dict(one.details)) for name, one in found.items() if one.details}
        owner = {name: measure for measure, one in found.items() for name in one.values}
    record = {
        "run": run_dir,
        "made_from": {run.phase_of(stage): run.made_of(run.phase_of(stage)) for stage in subjects},
        "split": split,
        "images": len(looked_at.indices),
        "measures": {
            cls.name: {"title": cls.title, "better": cls.better, "group": cls.group,
                       "values": [name for name, measure in owner.items() if measure == cls.name]}
            for cls in able
        },
        "stages": rows,
        "details": details,
        "left_out": left_out,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "measures.json", record)
    print(_table(record), flush=True)
    return folder / "measures.json"


def _classifiers(run: Run, stages: list[str] | str | None) -> dict[str, tuple[TrainedModule, Classifier]]:
    """The stages that are measured, with what holds their classifier."""
    if stages is None:
        found = {}
        for stage in run.stages:
            module = run.load(stage)
            model = getattr(module, "model", None)
            if isinstance(model, Classifier):
                found[stage] = (module, model)
        if not found:
            raise UserError(f"{run.folder}: no phase of this run that is finished holds a classifier")
        return found
    given = [part.strip() for part in stages.split(",")] if isinstance(stages, str) else list(stages)
    found = {}
    for stage in given:
        module = run.load(stage)
        model = getattr(module, "model", None)
        if not isinstance(model, Classifier):
            raise UserError(f"--stages: {stage} of {run.folder} holds no classifier that could be measured")
        found[stage] = (module, model)
    return found


def _left_out(chosen: list[type[Measure]], images: AnnotatedImages) -> dict[str, str]:
    """Measures that need annotations which the images do not have → why they are left out."""
    reasons = {}
    for cls in chosen:
        missing = [need for need in cls.needs if not images.has(need)]
        if missing:
            what = " and ".join(f"{CALLED[need]} ({HOW_TO_GIVE[need]})" for need in missing)
            reasons[cls.name] = f"needs {what}"
    return reasons


def _rounded(value: float) -> float | None:
    return round(value, DIGITS) if math.isfinite(value) else None


def _defined(details: Any) -> Any:
    """Plain values in which None stands for numbers that are not defined; JSON has no NaN."""
    if isinstance(details, Mapping):
        return {name: _defined(value) for name, value in details.items()}
    if isinstance(details, list | tuple):
        return [_defined(value) for value in details]
    return None if isinstance(details, float) and not math.isfinite(details) else details


def _table(record: Mapping[str, Any]) -> str:
    """A row per value, a column per stage, and what was left out."""
    stages, arrows = record["stages"], {"higher": "↑", "lower": "↓", "": ""}
    rows = [
        [f"{name} {arrows[about['better']]}".strip(), *(values.get(name) for values in stages.values())]
        for about in record["measures"].values()
        for name in about["values"]
    ]
    lines = [f"\n{format_table(['measure', *stages], rows)}\n"] if rows else []
    lines += [f"  left out: {name}: {why}" for name, why in record["left_out"].items()]
    lines += [f"  {record['images']:,} {record['split']} images; ↑ more is better, ↓ less is better"]
    return safe_text("\n".join(lines), lines=True)
