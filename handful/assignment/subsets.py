"""The best k-subsets of a row of numbers, one after another."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

#: Positions in a set of features, ascending.
Subset = tuple[int, ...]


def best_subsets(values: Sequence[float], size: int) -> Iterator[tuple[float, Subset]]:
    """All subsets of `size` numbers by falling sum, as `(sum, ascending indices)`; ties by the indices' order.

    Enumerated lazily: the next subset costs O(size · log) after the numbers are sorted.
    """
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    first = tuple(range(size))
    heap = [(-sum(values[i] for i in order[:size]), first)]
    seen = {first}
    while heap:
        negative, ranks = heapq.heappop(heap)
        yield -negative, tuple(sorted(order[rank] for rank in ranks))
        for place, rank in enumerate(ranks):
            following = rank + 1
            if following >= len(order) or (place + 1 < size and ranks[place + 1] == following):
                continue
            child = (*ranks[:place], following, *ranks[place + 1 :])
            if child not in seen:
                seen.add(child)
                heapq.heappush(heap, (negative + values[order[rank]] - values[order[following]], child))


def best_subset_with(values: Sequence[float], size: int, needed: int) -> tuple[float, Subset]:
    """The best subset that holds the number at index `needed`."""
    others = sorted((i for i in range(len(values)) if i != needed), key=lambda i: (-values[i], i))[: size - 1]
    return values[needed] + sum(values[i] for i in others), tuple(sorted((needed, *others)))
