"""Histograms that need not know the range of what comes, and are the same in any order and on any number of ranks."""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import check_whole
from handful.metrics.finite import as_finite
from handful.metrics.plotted import PlottedMetric
from handful.metrics.shaped import ShapedMetric

#: Narrowest bins: 2 to the power of this.
_FINEST = -60
#: Bins are numbered below 2 to the power of this, so that float64 holds the numbers exactly.
_LARGEST = 40
#: Values counted at a time on a processor, so that they stay in its cache, and on a GPU.
_CELLS, _CELLS_GPU = 2**17, 2**22


class Histogram(PlottedMetric, ShapedMetric):
    """Count values per feature in bins whose width is a power of two.

    A bin is `[n·2^e, (n + 1)·2^e)` with a whole n; e is the smallest with which `bins` neighbouring bins hold all
    values seen of the feature. Where the range grows, neighbours are joined. So counts depend on the values alone, not
    on their order or on which rank has seen them, and a bin is at most `4 / bins` of the range wide.

    Args:
        num_features: S.
        bins: per feature, at least 8.

    Example:
        >>> histogram = Histogram(num_features=1, bins=8)
        >>> histogram.update(torch.tensor([[0.0], [1.0], [7.5]]))
        >>> counts, edges = histogram.compute()
        >>> counts[0].tolist(), edges[0, :2].tolist()
        ([1, 1, 0, 0, 0, 0, 0, 1], [0.0, 1.0])
    """

    state: Tensor

    def __init__(self, num_features: int, bins: int = 1024, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_features = num_features = check_whole("num_features", num_features, 0)
        self.bins = bins = check_whole("bins", bins, 8)
        # per feature: e, the number of its first bin, the counts
        empty = torch.zeros(num_features, bins + 2, dtype=torch.int64)
        empty[:, 0] = _FINEST
        self.add_state("state", empty, dist_reduce_fx=_joined)

    def update(self, values: Tensor) -> None:
        """Add values `(n, S)`: one per feature and row.

        Raises:
            UserError: another shape, or values that are not finite.
        """
        values = as_finite(values, (None, self.num_features), "values").T
        for rows in chunks(values):
            self._count(rows, values[rows])

    def _count(self, features: slice, values: Tensor) -> None:
        """Add finite or whole numbers `(R, n)` of some features, which a slice chooses."""
        if not values.numel():
            return
        state = self.state[features]
        # most features' values fall into bins that are there already
        low, high = (end.double()[:, None] for end in values.contiguous().aminmax(dim=1))
        ends = _bin(torch.cat([low, high], dim=1), state[:, :1]) - state[:, 1:2]
        known = ((ends >= 0) & (ends < self.bins)).all(dim=1) & (state[:, 2] > 0)
        if bool(known.all()):
            _add(state[:, 2:], _places(values, state[:, :1], state[:, 1:2]))
            return
        inside, outside = known.nonzero()[:, 0], (~known).nonzero()[:, 0]
        if len(inside):
            old = state[inside]
            _add(old[:, 2:], _places(values[inside], old[:, :1], old[:, 1:2]))
            state[inside] = old
        old, new = state[outside], self._new(values[outside], low[outside, 0], high[outside, 0])
        state[outside] = _pair(old, new) if bool(old[:, 2:].any()) else new

    def _new(self, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The state `(R, bins + 2)` of values `(R, n)` alone, whose ends are given."""
        exponent = _start(low, high, self.bins)
        if not values.is_floating_point():
            exponent = exponent.clamp(min=0)
        while True:
            first, last = _bin(low, exponent), _bin(high, exponent)
            fits = _fits(first, last, self.bins)
            if bool(fits.all()):
                break
            exponent = torch.where(fits, exponent, exponent + 1)
        exponent, first = exponent[:, None], first[:, None]
        counts = torch.zeros(len(values), self.bins, dtype=torch.int64, device=values.device)
        _add(counts, _places(values, exponent, first))
        return torch.cat([exponent, first, counts], dim=1)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return counts, int64 `(S, bins)`, and the edges of the bins, float64 `(S, bins + 1)`."""
        exponent, first, counts = self.state[:, :1], self.state[:, 1:2], self.state[:, 2:]
        number = first + torch.arange(self.bins + 1, device=counts.device)
        return counts, torch.ldexp(number.double(), exponent)

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the counts of each feature over its values, or what else `compute` of a derived measure returns.

        Args:
            val: what `compute` or `forward` returned, or a list of these; the present value where None.
            ax: axes of Matplotlib to draw into; new ones where None.

        Returns:
            The figure and its axes.
        """
        found = self.compute() if val is None else val
        given = found if isinstance(found, list) else [found]
        if not given or not isinstance(given[0], tuple):
            return super().plot(found, ax)
        from matplotlib import pyplot

        axes = pyplot.subplots()[1] if ax is None else ax
        for counts, edges in given:
            for number, (heights, places) in enumerate(zip(counts.tolist(), edges.tolist(), strict=True)):
                axes.stairs(heights, places, label=str(number))
        axes.legend()
        return axes.figure, axes


def upper_thresholds(counts: Tensor, edges: Tensor, share: float) -> Tensor:
    """The values that a share of all values reach or exceed, per feature, float64 `(S,)`.

    Of all edges with values above them the one whose share is nearest. Infinite for features whose values fill a single
    bin, and without values: nothing exceeds anything there.

    Args:
        counts: int64 `(S, B)`.
        edges: `(S, B + 1)`.
        share: in (0, 1).

    Example:
        >>> upper_thresholds(torch.tensor([[2, 1, 1]]), torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 0.3)
        tensor([2.], dtype=torch.float64)
    """
    return nearest_thresholds(counts, edges, share)[0]


def nearest_thresholds(counts: Tensor, edges: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """`upper_thresholds`, and how far the share of the values that reach them is from the one asked for, `(S,)`."""
    above = counts.flip(1).cumsum(dim=1).flip(1).double()
    distance = (above / above[:, :1].clamp(min=1) - share).abs()
    distance = torch.where(above > 0, distance, torch.inf)
    # of edges that part the values in the same way, the uppermost
    last = distance.shape[1] - 1 - distance.flip(1).argmin(dim=1, keepdim=True)
    found = edges.double().gather(1, last)[:, 0]
    return torch.where((counts > 0).sum(dim=1) > 1, found, torch.inf), distance.gather(1, last)[:, 0]


def chunks(values: Tensor) -> list[slice]:
    """Slices of the first dimension that hold as many values as are counted at a time, a row at least."""
    cells = _CELLS if values.device.type == "cpu" else _CELLS_GPU
    step = max(1, cells // max(1, values[:1].numel()))
    return [slice(start, min(start + step, len(values))) for start in range(0, len(values), step)]


def _bin(values: Tensor, exponent: Tensor) -> Tensor:
    """Numbers of the bins that values lie in."""
    # one power per feature, and products with powers of two are exact
    return (values * torch.ldexp(torch.ones_like(exponent, dtype=torch.float64), -exponent)).floor().long()


def _places(values: Tensor, exponent: Tensor, first: Tensor) -> Tensor:
    """Numbers of the bins that floating-point or whole numbers `(R, n)` lie in, from the first bin `(R, 1)` on."""
    if values.is_floating_point():
        return _bin(values.double(), exponent).sub_(first)
    return (values >> exponent.to(values.dtype)).long().sub_(first)


def _add(counts: Tensor, places: Tensor) -> None:
    """Count the bins `(R, n)` of some values, all of which are there."""
    counts.scatter_add_(1, places, counts.new_ones(1, 1).expand_as(places))


def _start(low: Tensor, high: Tensor, bins: int) -> Tensor:
    """An exponent not above the smallest that fits, and large enough for exact numbers of bins."""
    by_range = torch.frexp((high - low) / bins).exponent - 1
    by_size = torch.frexp(torch.maximum(low.abs(), high.abs())).exponent - _LARGEST
    start = torch.maximum(torch.where(high > low, by_range, torch.full_like(by_range, _FINEST)), by_size)
    return start.long().clamp(min=_FINEST)


def _fits(first: Tensor, last: Tensor, bins: int) -> Tensor:
    limit = 2**_LARGEST
    return (last - first < bins) & (first >= -limit) & (last < limit)


def _joined(states: Tensor) -> Tensor:
    """One state of several, `(n, S, bins + 2)`: the same whatever their order."""
    joined = states[0]
    for other in states[1:]:
        joined = _pair(joined, other)
    return joined


def _pair(one: Tensor, other: Tensor) -> Tensor:
    bins = one.shape[1] - 2
    empty, other_empty = one[:, 2:].sum(dim=1) == 0, other[:, 2:].sum(dim=1) == 0
    ends = [_ends(state) for state in (one, other)]
    exponent = torch.where(
        empty, other[:, 0], torch.where(other_empty, one[:, 0], torch.maximum(one[:, 0], other[:, 0]))
    )
    while True:
        shifts = [(exponent - state[:, 0]).clamp(min=0) for state in (one, other)]
        firsts = [first >> shift for (first, _), shift in zip(ends, shifts, strict=True)]
        lasts = [last >> shift for (_, last), shift in zip(ends, shifts, strict=True)]
        first = torch.where(empty, firsts[1], torch.where(other_empty, firsts[0], torch.minimum(*firsts)))
        last = torch.where(empty, lasts[1], torch.where(other_empty, lasts[0], torch.maximum(*lasts)))
        fits = _fits(first, last, bins)
        if bool(fits.all()):
            break
        exponent = torch.where(fits, exponent, exponent + 1)
    counts = torch.zeros_like(one[:, 2:])
    number = torch.arange(bins, device=one.device)
    for state, shift in zip((one, other), shifts, strict=True):
        place = (((state[:, 1:2] + number) >> shift[:, None]) - first[:, None]).clamp(0, bins - 1)
        counts.scatter_add_(1, place, state[:, 2:])  # bins beyond the values are empty, wherever they go
    return torch.cat([exponent[:, None], first[:, None], counts], dim=1)


def _ends(state: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of the first and the last bin that holds anything."""
    filled = state[:, 2:] > 0
    first = filled.int().argmax(dim=1)
    last = filled.shape[1] - 1 - filled.flip(1).int().argmax(dim=1)
    return state[:, 1] + first, state[:, 1] + last
