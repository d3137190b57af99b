"""The one conversion of what a caller hands over: labels, targets, masks, maps, features, logits.

Everything that takes labels takes any integer type, whole numbers in floating point, arrays, lists and a column
`(N, 1)`, and gives the same result for each; anything else ends in one sentence. The range of labels is checked only
where that costs nothing: on the CPU.
"""

import math
import numbers
from typing import Any

import numpy
import torch
from torch import Tensor

from handful.errors import UserError

#: What to do with names of classes where their numbers are wanted.
_NUMBER_THEM = "; number them, numpy.unique(…, return_inverse=True)"


def as_tensor(values: Any, name: str, hint: str = "") -> Tensor:
    """Return numbers of any type and shape as a tensor, which shares memory where it can.

    Args:
        values: a tensor, an array, a number, nested lists, a sequence of tensors or arrays of one shape.
        name: what the sentence calls them.
        hint: the end of the sentence about what is not a number.

    Raises:
        UserError: something else than numbers, or rows of different lengths.

    Example:
        >>> as_tensor([torch.tensor([1.0]), torch.tensor([2.0])], "features")
        tensor([[1.],
                [2.]])
    """
    if isinstance(values, Tensor):
        return _plain(values, name)
    if isinstance(values, numpy.ma.MaskedArray) and values.mask.any():
        raise UserError(f"{name}: a masked array with {int(values.mask.sum())} masked values; fill or leave them out")
    several = isinstance(values, list | tuple) and any(isinstance(value, Tensor) for value in values)
    try:
        stacked = torch.stack([torch.as_tensor(value) for value in values]) if several else None
        array = numpy.asarray(None if several else values)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{name}: expected numbers in one shape ({error}){hint}") from error
    if stacked is not None:
        return _plain(stacked, name)
    if array.dtype.kind not in "biufc":
        kind = "text" if array.dtype.kind in "US" else f"{type(values).__name__}"
        raise UserError(f"{name}: expected numbers, got {'nothing' if values is None else kind}{hint}")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch shares memory, and warns of what it may not write to
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise UserError(f"{name}: torch has no type for {array.dtype}") from error


def _plain(values: Tensor, name: str) -> Tensor:
    """A tensor with all its numbers in a type that is computed with: not sparse, quantised or of 8-bit floats."""
    if values.is_nested:
        raise UserError(f"{name}: expected numbers in one shape, got a nested tensor")
    if values.is_meta:
        raise UserError(f"{name}: a tensor on the meta device has a shape and no numbers")
    if values.is_quantized:
        return values.dequantize()
    if values.layout != torch.strided:
        values = values.to_dense()
    return values.float() if values.is_floating_point() and values.itemsize == 1 else values


def as_labels(labels: Any, count: int | None = None, num_classes: int | None = None, name: str = "labels") -> Tensor:
    """Return whole numbers as int64 `(N,)`.

    Args:
        labels: `(N,)` or `(N, 1)`, of any integer type or whole numbers in floating point: a tensor, an array, a list.
        count: N, where it is known.
        num_classes: C, where the numbers must lie in 0…C − 1; checked on the CPU only.
        name: what the sentence calls them.

    Raises:
        UserError: another type or shape, another number of labels, or a label out of range.

    Example:
        >>> as_labels([[2], [0]])
        tensor([2, 0])
    """
    values = _whole(as_tensor(labels, name, _NUMBER_THEM), name)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        hint = ""
        if values.ndim == 2 and num_classes in (None, values.shape[1]) and count in (None, len(values)):
            hint = f"; from one-hot rows take {name}.argmax(1)"
        expected = "one number per row" if count is None else f"{count} of them, one number per row"
        raise UserError(f"{name}: expected {expected}, got shape {tuple(values.shape)}{hint}")
    if count is not None and len(values) != count:
        raise UserError(f"{name}: expected {count} of them, one number per row, got shape {tuple(values.shape)}")
    if num_classes is not None and values.device.type == "cpu" and len(values):
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= num_classes:
            wrong = low if low < 0 else high
            raise UserError(f"{name}: {wrong} lies outside the {num_classes} classes 0..{num_classes - 1}")
    return values


def as_classes(classes: Any, name: str, hint: str = "") -> Tensor:
    """Return class numbers as int64 `()`, `(N,)` or `(N, T)` on the CPU, in memory of their own.

    Args:
        classes: one number for all rows, one per row, or T per row: of any integer type or whole numbers in floating
            point.
        name: what the sentence calls them.
        hint: the end of the sentence about what is not a class number.

    Raises:
        UserError: another type or shape.

    Example:
        >>> as_classes([2.0, 0.0], "target")
        tensor([2, 0])
    """
    values = _whole(as_tensor(classes, name, hint), name, hint)
    if values.ndim > 2:
        raise UserError(f"{name}: expected shape (), (N,) or (N, T), got {tuple(values.shape)}")
    return values.cpu().clone()


def as_index(index: Any, shape: tuple[int | None, ...], limit: int, name: str) -> Tensor:
    """Return indices as int64 of the given shape, whose entries lie in 0…`limit` − 1.

    Args:
        index: of any integer type: a tensor, an array, nested lists.
        shape: None for a side of any length.
        limit: checked on the CPU only.
        name: what the sentence calls them.

    Raises:
        UserError: another type or shape, or an index out of range.
    """
    values = _whole(as_tensor(index, name), name)
    _check_shape(values, shape, name)
    if values.device.type == "cpu" and values.numel():
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= limit:
            raise UserError(f"{name}: {low if low < 0 else high} lies outside 0..{limit - 1}")
    return values


def as_double(values: Any, shape: tuple[int | None, ...] | None, name: str) -> Tensor:
    """Return real numbers of any type, bool too, as float64 of the given shape.

    Args:
        values: a tensor, an array, nested lists.
        shape: None for any, and within it for a side of any length.
        name: what the sentence calls them.

    Raises:
        UserError: complex numbers, or another shape.

    Example:
        >>> as_double([True, False], (None,), "present")
        tensor([1., 0.], dtype=torch.float64)
    """
    given = as_tensor(values, name)
    if given.is_complex():
        raise UserError(f"{name}: expected real numbers, got {_type(given)}")
    if shape is not None:
        _check_shape(given, shape, name)
    return given.double()


def as_float(values: Any, shape: tuple[int | None, ...], name: str) -> Tensor:
    """Return floating-point numbers of the given shape; a tensor keeps its type, device and graph.

    Args:
        values: a tensor, an array, nested lists.
        shape: None for a side of any length.
        name: what the sentence calls them.

    Raises:
        UserError: another type or shape.
    """
    given = as_tensor(values, name)
    if not given.is_floating_point():
        raise UserError(f"{name}: expected floating point numbers, got {_type(given)}")
    _check_shape(given, shape, name)
    return given


def as_mask(masks: Any, name: str = "masks") -> Tensor:
    """Return masks as bool `(N, H, W)`.

    Args:
        masks: `(N, H, W)` or `(N, 1, H, W)`: bool, or any numeric type with the values 0 and 1, or 0 and 255.
        name: what the sentence calls them.

    Raises:
        UserError: another shape, or other values: where a soft mask begins and ends is for the caller to say.
    """
    values = as_tensor(masks, name)
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 3 or values.is_complex():
        raise UserError(f"{name}: expected (N, H, W), got {tuple(values.shape)} {_type(values)}")
    if values.dtype == torch.bool or not values.numel():
        return values.bool()
    if values.dtype in (torch.uint16, torch.uint32, torch.uint64):
        values = values.long()
    on = values == 1 if bool((values <= 1).all()) else values == 255
    if not bool((on | (values == 0)).all()):
        low, high = values.min().item(), values.max().item()
        raise UserError(
            f"{name}: expected 0 and 1, or 0 and 255, got values from {low:g} to {high:g}; compare them with a "
            "threshold first"
        )
    return on


def as_maps(maps: Any, name: str = "maps") -> Tensor:
    """Return one map per image, finite floating point `(N, H, W)`.

    Args:
        maps: `(N, H, W)` or `(N, 1, H, W)`: a tensor or an array.
        name: what the sentence calls them.

    Raises:
        UserError: another type or shape, or a map with a value that is not a finite number.
    """
    values = as_tensor(maps, name)
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 3 or not values.is_floating_point() or 0 in values.shape[1:]:
        raise UserError(f"{name}: expected floating point (N, H, W), got {tuple(values.shape)} {_type(values)}")
    broken = (~torch.isfinite(values)).flatten(1).any(dim=1)
    if bool(broken.any()):
        raise UserError(f"{name}: map {int(broken.nonzero()[0])} holds values that are not finite numbers")
    return values


def check_weighted(values: Tensor, logits: Tensor, weight: Tensor, name: str) -> None:
    """Refuse weights that are not those of a head for these maps or features.

    Args:
        values: maps `(B, S, h, w)` or features `(B, S)`.
        logits: `(B, C)`.
        weight: `(C, S)`.
        name: of the values.

    Raises:
        UserError: the shapes do not fit.
    """
    as_float(logits, (len(values), None), "logits")
    as_float(weight, (logits.shape[1], values.shape[1]), f"weight (classes, {name})")


def check_whole(name: str, value: object, low: int, high: int | None = None) -> int:
    """The value as an int.

    Raises:
        UserError: it is not a whole number, or lies outside `low` … `high`.
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
        UserError: it is not a finite number, or lies outside.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UserError(f"{name}: expected a number, got {value!r}")
    number = float(value)
    inside = (number > low if open_below else number >= low) and (number < high if open_above else number <= high)
    if not inside or not math.isfinite(number):
        left, right = "(" if open_below else "[", ")" if open_above or high == math.inf else "]"
        raise UserError(f"{name}: {value} lies outside {left}{low:g}, {high:g}{right}")
    return number


def as_numpy(values: Any) -> numpy.ndarray:
    """Return a tensor, array or list as an array on the CPU."""
    return values.numpy(force=True) if isinstance(values, Tensor) else numpy.asarray(values)


def _whole(values: Tensor, name: str, hint: str = "") -> Tensor:
    """Whole numbers as int64; floating-point numbers, as spreadsheets give them, only without a fraction."""
    if values.dtype == torch.bool or values.is_complex():
        raise UserError(f"{name}: expected integers, got {_type(values)}{hint}")
    values = values.detach()
    if values.is_floating_point() and not bool((values.isfinite() & (values == values.trunc())).all()):
        raise UserError(f"{name}: expected integers, got {_type(values)} with a fraction or NaN{hint}")
    wide = values.dtype == torch.uint64 or values.is_floating_point()
    if wide and values.device.type == "cpu" and bool((values.double().abs() >= 2.0**63).any()):
        raise UserError(f"{name}: expected integers below 2^63, got {values.double().abs().max().item():g}{hint}")
    return values.long()


def _check_shape(values: Tensor, shape: tuple[int | None, ...], name: str) -> None:
    fits = values.ndim == len(shape) and all(
        wanted in (None, side) for side, wanted in zip(values.shape, shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if side is None else str(side) for side in shape)
        raise UserError(f"{name}: expected shape ({expected}), got {tuple(values.shape)}")


def _type(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")
