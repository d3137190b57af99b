"""What the solvers ask of their input, each refused with one sentence."""

from __future__ import annotations

import math
import numbers
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from handful.errors import UserError
from handful.inputs import as_labels
from handful.sparse.ranks import largest, total
from handful.sparse.rows import Rows


def check_labels(
    labels: Any, n_rows: int, num_classes: int | None, group: ProcessGroup | None = None
) -> tuple[Tensor, int]:
    """The labels as int64 (N,), once they are known to be sound, and the number of classes C.

    Args:
        labels: integers (N,) or (N, 1) in [0, C), see `handful.inputs.as_labels`.
        n_rows: N of this process.
        num_classes: C; the largest label plus one where None.
        group: the processes that share the rows, None for one process.

    Raises:
        UserError: wrong shape or type, labels out of range, or a class without a sample: its bias would have no
            finite optimum.
    """
    labels = as_labels(labels, n_rows)
    low = int(labels.min()) if len(labels) else 0
    high = int(labels.max()) if len(labels) else -1
    bounds = largest(torch.tensor([-low, high]), group)
    low, high = -int(bounds[0]), int(bounds[1])
    num_classes = high + 1 if num_classes is None else num_classes
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise UserError(f"labels: {wrong} lies outside the {num_classes} classes 0..{num_classes - 1}")
    counts = total(torch.bincount(labels, minlength=num_classes).double(), group)
    empty = (counts == 0).nonzero()[:, 0].tolist()
    if empty:
        named = ", ".join(map(str, empty[:5])) + (", …" if len(empty) > 5 else "")
        raise UserError(f"labels: no sample of class {named}; every class needs at least one")
    if num_classes < 2:
        raise UserError("labels: at least two classes are needed")
    return labels, num_classes


def check_finite(rows: Rows, name: str = "features") -> None:
    """Raises UserError where a feature is NaN or infinite, naming the first row and column."""
    for start, chunk in rows.chunks():
        bad = ~torch.isfinite(chunk)
        if bool(bad.any()):
            row, column = bad.nonzero()[0].tolist()
            raise UserError(f"{name}: row {start + row}, feature {column} is {chunk[row, column].item()}")


def check_alpha(alpha: float) -> None:
    """Raises UserError where the elastic-net mixing is not within [0, 1]."""
    check_real("alpha", alpha, 0.0, 1.0)


def check_whole(name: str, value: object, low: int, high: int | None = None) -> int:
    """The value as an int.

    Raises:
        UserError: it is no whole number, or lies outside `low` … `high`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise UserError(f"{name}: expected a whole number, got {value!r}")
    number = int(value)
    if number < low or (high is not None and number > high):
        bounds = f"at least {low}" if high is None else f"{low} to {high}"
        raise UserError(f"{name}: expected {bounds}, got {number}")
    return number


def check_real(
    name: str, value: object, low: float, high: float = math.inf, *, open_below: bool = False, open_above: bool = False
) -> float:
    """The value as a float.

    Args:
        name: of the option.
        value: to check.
        low: smallest value, or what it must exceed with `open_below`.
        high: largest value, or what it must stay below with `open_above`.
        open_below: see above.
        open_above: see above.

    Raises:
        UserError: it is no finite number, or lies outside.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UserError(f"{name}: expected a number, got {value!r}")
    number = float(value)
    inside = (number > low if open_below else number >= low) and (number < high if open_above else number <= high)
    if not inside or not math.isfinite(number):
        left, right = "(" if open_below else "[", ")" if open_above or high == math.inf else "]"
        raise UserError(f"{name}: {value} lies outside {left}{low:g}, {high:g}{right}")
    return number


def check_path_options(n_lambdas: object, epsilon: object, tolerance: object) -> None:
    """Raises UserError where the grid of λ or the tolerance make no sense."""
    check_whole("n_lambdas", n_lambdas, 1)
    check_real("epsilon", epsilon, 0.0, 1.0, open_below=True, open_above=True)
    check_real("tolerance", tolerance, 0.0, open_below=True)
