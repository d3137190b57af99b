"""What is shown of a whole pipeline on a dashboard: numbers, tables, pictures and examples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from handful.explain.local import confident_errors, confident_hits, decisions
from handful.report.content import Content
from handful.report.heat_map import heat
from handful.report.overlays import picture
from handful.report.sections.confusion import SHOWN as PAIRS
from handful.text import safe_text

#: Examples: errors and right decisions.
ERRORS, RIGHT = 16, 8

#: Measures of the stages that a dashboard compares.
MEASURES = (
    "accuracy", "n_features", "features_per_class", "diversity@5", "general_bits", "sufficient_bits", "redundant_bits",
    "kept_share",
)  # fmt: skip

#: Side of an example's picture in pixels; examples in a row of their sheet.
_SIDE, _IN_A_ROW = 128, 8


@dataclass
class Table:
    """Column names and rows."""

    columns: list[str]
    rows: list[list[Any]]


@dataclass
class Summary:
    """What is shown of a pipeline.

    Attributes:
        numbers: `<stage>/<measure>` and `seconds/<phase>`.
        tables: by name: stages, and where they exist confusion, weights_table, regularisation_path, examples.
        pictures: by name: weights and confusion_matrix.
        examples: a picture for every row of the table of that name.
    """

    numbers: dict[str, float]
    tables: dict[str, Table]
    pictures: dict[str, Image.Image] = field(default_factory=dict)
    examples: list[Image.Image] = field(default_factory=list)

    @property
    def sheet(self) -> Image.Image | None:
        """The examples' pictures on one sheet, in the order of their table."""
        if not self.examples:
            return None
        rows = -(-len(self.examples) // _IN_A_ROW)
        sheet = Image.new("RGB", (_IN_A_ROW * _SIDE, rows * _SIDE), "white")
        for place, image in enumerate(self.examples):
            sheet.paste(image, (place % _IN_A_ROW * _SIDE, place // _IN_A_ROW * _SIDE))
        return sheet


def summarise(content: Content) -> Summary:
    """What there is to show of a finished run."""
    numbers = {
        f"{stage}/{name}": value
        for stage, row in content.results.get("stages", {}).items()
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    numbers |= {f"seconds/{phase}": spent for phase, spent in content.results.get("seconds", {}).items()}
    found = Summary(numbers, {"stages": _table(*content.stage_table)})
    if content.deciding is not None:
        _add_decisions(found, content)
    if content.path is not None:
        points = [
            [name, density, accuracy]
            for name, (x, y) in content.path.accuracy.items()
            for density, accuracy in zip(x, y, strict=True)
        ]
        found.tables["regularisation_path"] = Table(["images", "weights per class", "accuracy"], points)
    return found


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    return Table(list(columns), [list(row) for row in rows])


def _add_decisions(found: Summary, content: Content) -> None:
    """Add the confusion, the weights and the examples."""
    deciding = content.deciding
    assert deciding is not None
    names = [safe_text(name) for name in deciding.names]
    mistakes = [[names[truth], names[predicted], images] for truth, predicted, images in deciding.mistakes(PAIRS)]
    found.tables["confusion"] = Table(["truth", "predicted", "images"], mistakes)
    found.pictures["confusion_matrix"] = heat(deciding.confusion().double().numpy(), names, names)
    if content.few and deciding.used:
        columns = ["class", *(safe_text(content.label(feature)) for feature in deciding.used)]
        rows = [[name, *values] for name, values in zip(names, deciding.weights.tolist(), strict=True)]
        found.tables["weights_table"] = Table(columns, rows)
        found.pictures["weights"] = heat(deciding.weights.numpy(), names, columns[1:])
    if content.dataset is None or content.inputs is None:
        return
    chosen = [*confident_errors(deciding, ERRORS), *confident_hits(deciding, RIGHT)]
    rows = []
    for one in decisions(deciding, content.dataset, chosen, drawn=0):
        found.examples.append(picture(content.inputs.denormalise(one.image), _SIDE))
        tipped = ", ".join(f"{content.label(f)} {value:+.2f}" for f, value in list(one.parts.items())[:5])
        rows.append([safe_text(one.truth), safe_text(one.predicted), one.probability, one.right, tipped])
    found.tables["examples"] = Table(["truth", "predicted", "probability", "right", "what tipped it"], rows)

