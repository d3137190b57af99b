"""Numbers that add up, as a waterfall draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A row of a waterfall.

    Attributes:
        label: of the row.
        shown: the number, rounded so that the rows as shown add up to the total as shown.
        left: where its bar begins, in per cent of the width.
        width: of its bar, in per cent.
        positive: whether it goes up.
        feature: number of the feature, if it is one.
    """

    label: str
    shown: str
    left: float
    width: float
    positive: bool
    feature: int | None = None


def waterfall(
    parts: Sequence[tuple[str, float, int | None]], total_label: str, digits: int = 2
) -> tuple[list[Step], Step]:
    """Lay out parts one after another, from zero to their sum.

    Args:
        parts: label, number and feature of every row.
        total_label: of the last row.
        digits: after the point.

    Returns:
        The rows, and the last one, their sum.

    Example:
        >>> rows, total = waterfall([("a", 0.333, 1), ("b", 0.333, 2), ("c", 0.333, 3)], "sum")
        >>> [row.shown for row in rows], total.shown
        (['+0.34', '+0.33', '+0.33'], '+1.00')
    """
    numbers = add_up([number for _, number, _ in parts], digits)
    ends, at = [0.0], 0.0
    for number in numbers:
        at += number
        ends.append(at)
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0

    def step(label: str, start: float, end: float, number: float, feature: int | None) -> Step:
        left, width = (min(start, end) - low) / span, abs(end - start) / span
        return Step(label, _signed(number, digits), round(100 * left, 2), round(100 * width, 2), number >= 0, feature)

    rows = [
        step(label, ends[place], ends[place + 1], numbers[place], feature)
        for place, (label, _, feature) in enumerate(parts)
    ]
    return rows, step(total_label, 0.0, at, at, None)


def add_up(values: Sequence[float], digits: int = 2) -> list[float]:
    """Round numbers so that they add up to their rounded sum; none moves by a whole unit of the last digit.

    Example:
        >>> add_up([0.004, 0.004, 0.004])
        [0.01, 0.0, 0.0]
    """
    unit = 10**digits
    scaled = [value * unit for value in values]
    floors = [math.floor(value) for value in scaled]
    missing = round(math.fsum(scaled)) - sum(floors)
    order = sorted(range(len(values)), key=lambda place: floors[place] - scaled[place])
    for place in order[:missing]:
        floors[place] += 1
    return [floor / unit for floor in floors]


def _signed(number: float, digits: int) -> str:
    return f"{round(number, digits) + 0.0:+.{digits}f}"
