"""What the solvers ask of their input, each refused with one sentence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from handful.conversions import as_labels, check_real, check_whole
from handful.errors import UserError
from handful.sparse.ranks import largest, total
from handful.sparse.rows import Rows


def check_labels(
    labels: Any, n_rows: int, num_classes: int | None, group: ProcessGroup | None = None
) -> tuple[Tensor, int]:
    """The labels as int64 (N,), once they are known to be sound, and the number of classes C.

    Args:
        labels: integers (N,) or (N, 1) in [0, C), see `handful.conversions.as_labels`.
        n_rows: N of this process.
        num_classes: C; the largest label plus one where None.
        group: the processes that share the rows, None for one process.

    Raises:
        UserError: wrong shape or type, labels out of range, or a class without a sample: its bias would have no
            finite optimum.
    """
    labels = as_labels(labels, n_rows)
    if num_classes is not None:
        num_classes = check_whole("num_classes", num_classes, 1)
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


def check_path_options(n_lambdas: object, epsilon: object, tolerance: object) -> None:
    """Raises UserError where the grid of λ or the tolerance make no sense."""
    check_whole("n_lambdas", n_lambdas, 1)
    check_real("epsilon", epsilon, 0.0, 1.0, open_below=True, open_above=True)
    check_real("tolerance", tolerance, 0.0, open_below=True)


def check_seed(seed: object) -> int:
    """The seed as an int that torch's generators take; UserError otherwise."""
    return check_whole("seed", seed, 0, 2**63 - 1)
