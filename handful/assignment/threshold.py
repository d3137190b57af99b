"""The smallest similarity threshold below which enough mutually dissimilar features exist."""

from __future__ import annotations

import torch
from torch import Tensor

from handful.errors import UserError


def clique_threshold(similarity: Tensor, size: int, *, steps: int = 100, tries: int = 40) -> float:
    """The smallest quantile t of the similarities for which `size` features with pairwise similarity below t are found.

    Greedy cliques of the graph "similarity < t", grown from the features with most neighbours. The grid is the
    published one: `steps` equal quantile steps from the density (size − 2)/(size − 1), above which such a clique always
    exists in a large graph (Turán), down to the share of zeros. Where the greedy search finds none there, as with few
    features to choose from, the quantiles above follow, and infinity last: then nothing is penalised.

    Args:
        similarity: (F, F) symmetric, non-negative, zero diagonal.
        size: n.
        steps: of the grid.
        tries: features that a clique is grown from, per threshold.

    Raises:
        UserError: fewer than `size` features.

    Example:
        >>> from handful.assignment import class_correlation, feature_similarity
        >>> similarity = feature_similarity(class_correlation(torch.rand(90, 40), torch.arange(90) % 9))
        >>> 0 <= clique_threshold(similarity, 6) <= 1
        True
    """
    count = len(similarity)
    if size > count:
        raise UserError(f"n_features: {size}, but there are only {count} features to choose from")
    if size < 2:
        return 0.0
    values = similarity.flatten().sort().values
    first = min(int(len(values) * (size - 2) / (size - 1)), len(values) - 1)
    zeros = int((values == 0).sum())
    places = {first - int(step * (first - zeros) / steps) for step in range(steps)}
    places |= {first + int(step * (len(values) - 1 - first) / steps) for step in range(steps + 1)}
    grid = [*sorted({float(values[place]) for place in places}), float("inf")]
    low, high = 0, len(grid) - 1  # a clique at one threshold is one at every larger one; at the last there always is
    while low < high:
        middle = (low + high) // 2
        if has_clique(similarity < grid[middle], size, tries):
            high = middle
        else:
            low = middle + 1
    return grid[low]


def has_clique(adjacent: Tensor, size: int, tries: int = 40) -> bool:
    """Whether a clique of that size is found greedily in the graph `(F, F)` of Booleans; loops are ignored."""
    graph = adjacent.float().fill_diagonal_(0)
    starts = graph.sum(dim=1).argsort(descending=True, stable=True)[:tries]
    degrees = graph[starts] @ graph  # whole numbers, exact in float32
    return any(
        _clique_size(graph, graph[start] > 0, degree, size) >= size
        for start, degree in zip(starts.tolist(), degrees, strict=True)
    )


def _clique_size(graph: Tensor, candidates: Tensor, degree: Tensor, enough: int) -> int:
    """Grow a clique: always the candidate with most neighbours among the candidates, ties to the lower index.

    Args:
        graph: (F, F) zeros and ones.
        candidates: (F,) neighbours of the first member.
        degree: (F,) neighbours among them.
        enough: the size at which to stop.
    """
    size = 1
    while size < enough and bool(candidates.any()):
        chosen = int(torch.where(candidates, degree, -1.0).argmax())
        size += 1
        leaving = candidates & ~(graph[chosen] > 0)
        degree -= graph[leaving].sum(dim=0)
        candidates &= ~leaving
    return size
