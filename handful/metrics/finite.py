"""Numbers that a measure can be taken of."""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_float
from handful.errors import UserError


def as_finite(values: Any, shape: tuple[int | None, ...], name: str) -> Tensor:
    """Floating-point numbers of the given shape, all of them finite; see `handful.conversions.as_float`.

    Raises:
        UserError: another type or shape; NaN or infinity, with the first row that has it.
    """
    found = as_float(values, shape, name)
    broken = ~torch.isfinite(found).flatten(1).all(dim=1) if found.numel() else torch.zeros(0, dtype=torch.bool)
    if bool(broken.any()):
        raise UserError(f"{name}: row {int(broken.nonzero()[0])} holds values that are not finite numbers")
    return found
