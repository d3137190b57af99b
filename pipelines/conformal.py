"""Sets of classes with a guarantee, calibrated on one half of a run's test images and measured on the other."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from handful.atomic import write_json
from handful.conformal import (
    ConformalSets,
    Hierarchy,
    adaptive_scores,
    calibrate,
    set_quality,
    stratified_halves,
    threshold_scores,
)
from handful.errors import UserError, did_you_mean
from handful.explain.hierarchy import has_hierarchy
from handful.networks import Classifier
from handful.networks.heads import SparseHead
from handful.record_files import read_json
from handful.text import safe_text
from lightning_modules import TrainedModule
from pipelines.finished_run import Run
from pipelines.measures.subject import AnnotatedImages
from pipelines.stored_features import features_of
from pipelines.tables import format_table

#: The ways to score classes.
METHODS = ("thr", "aps", "hierarchy")

FILE = "conformal.json"


def conformal_sets(
    run: Run,
    subjects: Mapping[str, tuple[TrainedModule, Classifier]],
    images: AnnotatedImages,
    coverage: float,
    folder: Path,
    per_class: bool = False,
) -> Path:
    """Calibrate and measure sets of every stage; write `conformal.json` and print a table.

    The test images are halved, class by class: one half calibrates, the other measures. The level of the hierarchy is
    chosen on a half of the calibration images, and its limit on the other, so that the guarantee holds. A way to score
    for which there are too few calibration images is left out, and the record and the table say so.

    Args:
        run: whose classifiers.
        subjects: stage → what holds its classifier, and the classifier.
        images: the test images, what is known of their classes, and the seed of the halves.
        coverage: the share of images, in (0, 1), whose set is to hold the true class.
        folder: to write to.
        per_class: whether every class is calibrated by its own images.

    Raises:
        UserError: a coverage out of range, or too few images for any way to score.
    """
    seed = images.options.seed
    attributes = None if images.class_attributes is None else images.class_attributes.present
    rows: dict[str, dict[str, Any]] = {}
    calibrated: dict[str, dict[str, Any]] = {}
    left_out: dict[str, dict[str, str]] = {}
    halves: tuple[Tensor, Tensor] | None = None
    for stage, (module, model) in subjects.items():
        model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        features, labels = features_of(module, model, images.data, "test")
        model = model.cpu()
        halves = stratified_halves(labels, seed)
        rows[stage], calibrated[stage], left_out[stage] = {}, {}, {}
        for method in METHODS if has_hierarchy(model.head) else METHODS[:2]:
            first, second = halves
            scores = Scores(method, model)
            if method == "hierarchy":
                of_level, first = (first[half] for half in stratified_halves(labels[first], seed))
                scores.fit_level(features[of_level], labels[of_level], coverage)
            try:
                sets = calibrate(scores(features[first]), labels[first], coverage, per_class)
            except UserError as error:
                left_out[stage][method] = str(error)
                continue
            found = set_quality(
                sets.of(scores(features[second])), labels[second], model.head.class_weights()[0].detach(), attributes
            )
            rows[stage][method] = found.to_dict()
            calibrated[stage][method] = {
                "limits": sets.limits.tolist(), "level": scores.level, "images": len(first),
            }  # fmt: skip
    assert halves is not None
    if not any(rows.values()):
        raise UserError(next(why for reasons in left_out.values() for why in reasons.values()))
    record = {
        "run": str(run.folder),
        "made_from": {run.phase_of(stage): run.made_of(run.phase_of(stage)) for stage in subjects},
        "asked_coverage": coverage,
        "per_class": per_class,
        "seed": seed,
        "images": {"calibration": len(halves[0]), "measured": len(halves[1])},
        "stages": rows,
        "calibrated": calibrated,
        "left_out": left_out,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, record)
    print(safe_text(_table(record), lines=True), flush=True)
    return folder / FILE


class Scores:
    """How strange every class is for images, by their pooled features.

    Args:
        method: `thr`, `aps` or `hierarchy`.
        model: on the CPU.
        level: of the hierarchy, where it is known.
    """

    def __init__(self, method: str, model: Classifier, level: int | None = None) -> None:
        self.method, self.model, self.level = method, model, level

    def fit_level(self, features: Tensor, labels: Tensor, coverage: float) -> None:
        """Choose the hierarchy's level by images `(N, F)` that do not calibrate."""
        present, predicted, assignment = self._read(features)
        self.level = Hierarchy.fit(present, predicted, labels, assignment, coverage).level

    @torch.no_grad()
    def __call__(self, features: Tensor) -> Tensor:
        """Scores `(N, C)` of features `(N, F)`."""
        if self.method == "hierarchy":
            present, predicted, assignment = self._read(features)
            return Hierarchy(assignment, self.level or 0).scores(present, predicted)
        # in double precision: of a sure network, most classes would be equally improbable in single precision
        probabilities = self.model.head(features).double().softmax(dim=1)
        return threshold_scores(probabilities) if self.method == "thr" else adaptive_scores(probabilities, None)

    @torch.no_grad()
    def _read(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        head = self.model.head
        assert isinstance(head, SparseHead)
        return head.standardise(features).clamp(min=0), head(features).argmax(dim=1), head.weight != 0


class CalibratedSets:
    """Sets of classes for images, by their pooled features."""

    def __init__(self, scores: Scores, sets: ConformalSets) -> None:
        self._scores, self._sets = scores, sets

    @property
    def coverage(self) -> float:
        """The share of images whose set holds the true class."""
        return self._sets.coverage

    def of(self, features: Tensor) -> Tensor:
        """Sets `(N, C)` of Booleans of features `(N, F)`, float32 on the CPU."""
        return self._sets.of(self._scores(features))


def calibrated_sets(run: Run, stage: str | None, method: str, model: Classifier) -> CalibratedSets:
    """What `evaluate --conformal` has calibrated for a stage's classifier.

    Raises:
        UserError: nothing, for other weights, or not for this method.
    """
    path = run.folder / "conformal" / FILE
    again = f"python train.py evaluate --run_dir {run.folder} --conformal 0.9"
    phase = run.phase_of(stage)
    if not path.is_file():
        raise UserError(f"--sets: nothing is calibrated yet; run {again}")
    try:
        record = read_json(path)
        made_from, coverage, per_class = (record[key] for key in ("made_from", "asked_coverage", "per_class"))
        found = next((record["calibrated"][name] for name in record["calibrated"] if run.phase_of(name) == phase), None)
        if found is None or made_from.get(phase) != run.made_of(phase):
            raise UserError(f"{path}: was calibrated with other weights of phase {phase}; run {again}")
        if method not in found:
            raise UserError(f"--sets: no {method} of phase {phase}{did_you_mean(method, found)}; there are "
                            f"{', '.join(found)}")  # fmt: skip
        limits = torch.tensor(found[method]["limits"], dtype=torch.float64)
        level = found[method]["level"]
        if len(limits) != model.num_classes or not isinstance(level, int | None):
            raise ValueError("limits of other classes")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a record of conformal sets ({error}); run {again}") from error
    return CalibratedSets(Scores(method, copy.deepcopy(model).cpu(), level), ConformalSets(limits, coverage, per_class))


def _table(record: dict[str, Any]) -> str:
    """A row per stage and method, and what was left out."""
    rows = [
        [stage, method, f"{100 * found['coverage']:.2f}", "–".join(f"{100 * end:.1f}" for end in found["interval"]),
         found["size"], f"{100 * found['single']:.1f}", f"{100 * found['empty']:.1f}",
         f"{100 * found['worst_class']:.1f}", found["coherence"], found["attribute_coherence"]]
        for stage, methods in record["stages"].items()
        for method, found in methods.items()
    ]  # fmt: skip
    columns = ["stage", "sets", "coverage %", "95 %", "classes", "single %", "empty %", "worst class %"]
    columns += ["coherence", "attributes"]
    if all(row[-1] is None for row in rows):  # nothing is known of them
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    images = record["images"]
    asked = f"  {100 * record['asked_coverage']:g} % asked for{', per class' if record['per_class'] else ''}; "
    counted = f"calibrated on {images['calibration']:,} test images, measured on {images['measured']:,}"
    without = "".join(
        f"\n  left out: {method} of {stage}: {why}"
        for stage, reasons in record["left_out"].items()
        for method, why in reasons.items()
    )
    return f"\n{format_table(columns, rows)}\n\n{asked}{counted}{without}"
