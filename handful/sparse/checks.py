"""What the solvers ask of their input, each refused with one sentence."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from handful.errors import UserError
from handful.sparse.ranks import largest, total
from handful.sparse.rows import Rows


def check_labels(labels: Tensor, n_rows: int, num_classes: int | None, group: ProcessGroup | None = None) -> int:
    """The number of classes C, once the labels are known to be sound.

    Args:
        labels: integers (N,) in [0, C).
        n_rows: N of this process.
        num_classes: C; the largest label plus one where None.
        group: the processes that share the rows, None for one process.

    Raises:
        UserError: wrong shape or type, labels out of range, or a class without a sample: its bias would have no
            finite optimum.
    """
    if labels.ndim != 1 or len(labels) != n_rows:
        raise UserError(f"labels: expected {n_rows} of them, one a row, got shape {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise UserError(f"labels: expected integers, got {labels.dtype}")
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
    return num_classes


def check_finite(rows: Rows, name: str = "features") -> None:
    """Raises UserError where a feature is NaN or infinite, naming the first row and column."""
    for start, chunk in rows.chunks():
        bad = ~torch.isfinite(chunk)
        if bool(bad.any()):
            row, column = bad.nonzero()[0].tolist()
            raise UserError(f"{name}: row {start + row}, feature {column} is {chunk[row, column].item()}")


def check_alpha(alpha: float) -> None:
    """Raises UserError where the elastic-net mixing is not within [0, 1]."""
    if not 0.0 <= alpha <= 1.0:
        raise UserError(f"alpha: {alpha} lies outside [0, 1]")
