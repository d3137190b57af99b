"""Which images have which attribute, and which of these annotations count."""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_double
from handful.errors import UserError


def as_presence(present: Any, certain: Any, count: int, attributes: int) -> tuple[Tensor, Tensor]:
    """Return presence, 0 where it does not count, and whether it counts, both float64 `(B, A)`.

    Args:
        present: `(B, A)`, bool or in [0, 1]: whether, or how likely, each image has each attribute.
        certain: bool `(B, A)`, the annotations that count; all where None. What the others hold is not looked at.
        count: B.
        attributes: A.

    Raises:
        UserError: other shapes, presence outside [0, 1], or certainties in the place of whether they suffice.

    Example:
        >>> as_presence([[1, 0]], [[True, False]], 1, 2)
        (tensor([[1., 0.]], dtype=torch.float64), tensor([[1., 0.]], dtype=torch.float64))
    """
    shares = as_double(present, (count, attributes), "present")
    if certain is None:
        counts = torch.ones_like(shares)
    else:
        counts = as_double(certain, (count, attributes), "certain").to(shares.device)
        if not bool(((counts == 0) | (counts == 1)).all()):
            raise UserError("certain: expected whether annotations count; compare certainties with a threshold first")
        shares = torch.where(counts > 0, shares, 0.0)
    if not bool(((shares >= 0) & (shares <= 1)).all()):
        raise UserError("present: expected values in [0, 1]")
    return shares, counts
