"""Attributes of images, or of the classes of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from handful.errors import UserError, did_you_mean
from handful.record_files import read_rows


@dataclass(frozen=True)
class AttributeTable:
    """Attributes of images or of classes.

    Attributes:
        names: A names.
        present: float64 `(rows, A)` in [0, 1]: of an image whether, or how likely, it has the attribute; of a class the
            share of its images that have it.
        certain: bool `(rows, A)`, which entries count; None where all do.

    Example:
        >>> table = AttributeTable(["red", "blue"], torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        >>> table.of_classes(torch.tensor([0, 0, 1]), 2).present.tolist()
        [[0.5, 0.5], [1.0, 1.0]]
    """

    names: Sequence[str]
    present: Tensor
    certain: Tensor | None = None

    def of_classes(self, labels: Tensor, num_classes: int) -> "AttributeTable":
        """The share of every class's images that have each attribute; uncertain entries do not count.

        Args:
            labels: int64 `(rows,)`.
            num_classes: C.
        """
        certain = (torch.ones_like(self.present) if self.certain is None else self.certain).double()
        sums = torch.zeros(num_classes, len(self.names), dtype=torch.float64)
        counts = sums.index_add(0, labels, certain)
        sums = sums.index_add(0, labels, self.present.double() * certain)
        return AttributeTable(self.names, torch.where(counts > 0, sums / counts.clamp(min=1), 0.0), counts > 0)


def read_class_attributes(path: str | Path, class_names: Sequence[str]) -> AttributeTable:
    r"""Read a table of classes × attributes: CSV, first column the class, values in per cent or in [0, 1].

    Args:
        path: of the file. Values above 1 anywhere mean per cent.
        class_names: C names; the rows come in their order, rows of other classes are left out.

    Returns:
        `present` is `(C, A)`.

    Raises:
        UserError: the file cannot be read, a class has no row or two, a cell is not a share.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "attributes.csv"
        >>> _ = file.write_text("class,red,blue\nowl,80,0\nwren,10,100\n")
        >>> read_class_attributes(file, ["wren", "owl"]).present.tolist()
        [[0.1, 1.0], [0.8, 0.0]]
    """
    path = Path(path)
    try:
        rows = read_rows(path, "utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table of attributes ({error})") from None
    if len(rows) < 2 or len(rows[0]) < 2:
        raise UserError(f"{path}: expected a line of attribute names and a line per class, the class first")
    names = rows[0][1:]
    found: dict[str, list[float]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise UserError(f"{path}: line {number} has {len(row)} cells, where the first has {len(rows[0])}")
        if row[0] in found:
            raise UserError(f"{path}: the class {row[0]!r} has two lines, the second is line {number}")
        found[row[0]] = [_share(cell, path, number, name) for cell, name in zip(row[1:], names, strict=True)]
    missing = [name for name in class_names if name not in found]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{path}: no line for the class {missing[0]!r}{more}{did_you_mean(missing[0], found)}")
    present = torch.tensor([found[name] for name in class_names], dtype=torch.float64)
    if float(present.max()) > 1:
        present = present / 100
    return AttributeTable(names, present)


def _share(cell: str, path: Path, line: int, name: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise UserError(f"{path}: line {line} has {cell!r} for {name!r}, which is not a percentage")
    return value
