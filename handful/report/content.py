"""What the sections of a run's report are drawn from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handful.annotations import AttributeTable, PixelAnnotations
from handful.errors import UserError
from handful.explain.deciding import DecidingFeatures, NormalisedImages
from handful.explain.feature_names import feature_label
from handful.explain.possible import Sets
from handful.images import Inputs
from handful.record_files import read_json
from handful.report.curves import Path as RegularisationPath
from handful.report.curves import Series

#: With more classes than this, every class and every feature has a page of its own.
MANY_CLASSES = 30


@dataclass
class Content:
    """A finished run, as the sections of its report read it.

    A section takes what it needs and is left out where that is missing; see `handful.report.sections`.

    Attributes:
        title: of the report.
        folder: of the run, for records that a section reads itself.
        results: the content of `results.json`.
        stage_table: column names, and the cells of every row.
        config: the run's configuration as text.
        phases: the finished phases, in order.
        explained: the phase whose classifier decides here.
        deciding: what decides in it; None where it holds no classifier.
        few: whether its head weighs few enough features to be shown one by one.
        dataset: the test images, those of `deciding`.
        inputs: their normalisation.
        images: pictures per feature.
        feature_names: feature → name that a person gave it.
        attributes: names and presence of attributes, of the test images or of the classes.
        parts: masks of parts in the test images.
        curves: measure → its values by epoch, of the phases that trained.
        path: regularisation path of the sparse phase.
        tradeoff: the content of `tradeoff.json`, where it belongs to these weights.
        measures: the content of `measures.json`, likewise.
        probe: the content of `probe.json`, likewise.
        conformal: the content of `conformal.json`, likewise.
        sets: the calibrated sets of the classifier that decides here, where there are any.
        measured: dataset indices of the images that these were measured on.
    """

    title: str
    folder: Path
    results: Mapping[str, Any]
    stage_table: tuple[Sequence[str], Sequence[Sequence[str]]] = ((), ())
    config: str = ""
    phases: Sequence[str] = ()
    explained: str = ""
    deciding: DecidingFeatures | None = None
    few: bool = True
    dataset: NormalisedImages | None = None
    inputs: Inputs | None = None
    images: int = 4
    feature_names: Mapping[int, str] = field(default_factory=dict)
    attributes: AttributeTable | None = None
    parts: PixelAnnotations | None = None
    curves: Mapping[str, Series] = field(default_factory=dict)
    path: RegularisationPath | None = None
    tradeoff: Mapping[str, Any] | None = None
    measures: Mapping[str, Any] | None = None
    probe: Mapping[str, Any] | None = None
    conformal: Mapping[str, Any] | None = None
    sets: Sets | None = None
    measured: Sequence[int] = ()

    @property
    def many(self) -> bool:
        """Whether there are too many classes for one page."""
        return self.deciding is not None and len(self.deciding.names) > MANY_CLASSES

    def label(self, feature: int) -> str:
        """How a feature is called."""
        return feature_label(feature, self.feature_names)

    def feature_link(self, feature: int) -> str:
        """Where a feature is shown."""
        return f"{'features.html' if self.many else ''}#feature-{feature}"

    def class_link(self, label: int) -> str:
        """Where a class is shown."""
        return class_page_name(label) if self.many else f"#class-{label}"

    def record(self, phase: str, name: str, fits: Callable[[Any], bool]) -> Any:
        """A JSON record in the folder of a phase; None where there is none.

        Args:
            phase: whose folder.
            name: of the file.
            fits: whether its content is what the section reads.

        Raises:
            UserError: the file is not JSON, or holds another thing.
        """
        path = self.folder / phase / name
        if not path.is_file():
            return None
        try:
            record = read_json(path)
            if not fits(record):
                raise ValueError("it holds other values")
        except ValueError as error:
            raise UserError(
                f"{path}: not a record written by Handful ({error}); --start_at {phase} writes it again"
            ) from None
        return record


def class_page_name(label: int) -> str:
    """The file of a class's page."""
    return f"class-{label:03d}.html"
