"""An explanatory graph: which parts each filter mixes, and how these lie to one another."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from torch import Tensor
from torch.nn import functional

from handful.conversions import as_index, check_real, check_whole
from handful.metrics.finite import as_feature_maps

#: Peaks that a division in nodes is judged on, at most.
_JUDGED = 1000

#: Share of a filter's peaks that a node has at least: a few odd ones do not make a part.
_SMALLEST = 0.1

#: Distance of the mean surroundings of two nodes, unit vectors, at least.
_DIFFERENT = 0.5


@dataclass(frozen=True)
class Peaks:
    """Places where filters peak.

    Attributes:
        filters: int64 `(P,)`, number of the filter.
        images: int64 `(P,)`, dataset index.
        places: float64 `(P, 2)`, x and y as shares of the image's sides.
        values: float32 `(P,)`, of the map there, over its largest; the strongest of a map come first.
        surroundings: float32 `(P, S)`, the values of all filters there, each over its largest; its own is 0.
            `(P, 0)` where they are not wanted.

    Example:
        >>> peaks = find_peaks(torch.eye(4).reshape(1, 4, 2, 2), [7])
        >>> peaks.filters.tolist(), peaks.places[0].tolist(), peaks.images.tolist()
        ([0, 1, 2, 3], [0.25, 0.25], [7, 7, 7, 7])
    """

    filters: Tensor
    images: Tensor
    places: Tensor
    values: Tensor
    surroundings: Tensor


@dataclass(frozen=True)
class Node:
    """A part pattern: peaks of one filter in like surroundings.

    Attributes:
        filter: its number.
        peaks: how many.
        share: of the filter's peaks.
        members: int64, their numbers among all peaks.
        parts: name → share of the node's peaks that lie on that part, where masks are known.

    Example:
        >>> Node(3, 10, 0.5, torch.arange(10), {"wing": 0.9}).parts
        {'wing': 0.9}
    """

    filter: int
    peaks: int
    share: float
    members: Tensor
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Edge:
    """Two nodes that keep their places to one another.

    Attributes:
        nodes: numbers of the two.
        offset: mean x and y from the first to the second, as shares of the image's sides.
        deviation: root mean square of the distance from that offset.
        images: in which both are.

    Example:
        >>> Edge((0, 2), (0.1, -0.2), 0.02, 40).deviation
        0.02
    """

    nodes: tuple[int, int]
    offset: tuple[float, float]
    deviation: float
    images: int


def find_peaks(
    maps: Tensor, indices: Sequence[int], per_map: int = 2, least: float = 0.5, surroundings: bool = True
) -> Peaks:
    """The local maxima of maps.

    Args:
        maps: `(B, S, h, w)`.
        indices: dataset indices of the images.
        per_map: at most.
        least: share of the map's largest value that a peak must reach.
        surroundings: whether to keep what the other filters do there, which the top layer of a graph needs.

    Raises:
        UserError: maps that are not finite, or numbers out of range.
    """
    maps = as_feature_maps(maps, None, None).detach()
    images = as_index(list(indices), (len(maps),), 2**62, "indices")
    check_whole("per_map", per_map, 1)
    check_real("least", least, 0, 1, open_below=True)
    flat = maps.flatten(2)
    largest = flat.amax(dim=2, keepdim=True)
    local = (functional.max_pool2d(maps, 3, stride=1, padding=1) == maps).flatten(2)
    local &= (flat >= least * largest) & (flat > 0) & (flat > flat.amin(dim=2, keepdim=True))
    values, place = torch.where(local, flat, -torch.inf).topk(min(per_map, flat.shape[2]), dim=2)
    image, unit, rank = values.isfinite().nonzero(as_tuple=True)
    place = place[image, unit, rank]
    height, width = maps.shape[2:]
    places = torch.stack([(place % width + 0.5) / width, (place // width + 0.5) / height], dim=1)
    relative = flat / largest.clamp(min=1e-12)
    own = relative[image, unit, place]
    if surroundings:
        beside = relative.clamp(min=0).transpose(1, 2)[image, place].clone()
        beside[torch.arange(len(unit)), unit] = 0
    else:
        beside = relative.new_zeros(len(unit), 0)
    return Peaks(unit.cpu(), images[image.cpu()], places.double().cpu(), own.float().cpu(), beside.float().cpu())


def joined(parts: Sequence[Peaks]) -> Peaks:
    """Peaks of several batches as one.

    Example:
        >>> one = find_peaks(torch.eye(4).reshape(1, 4, 2, 2), [0])
        >>> len(joined([one, one]).filters)
        8
    """
    return Peaks(*(torch.cat([getattr(part, name) for part in parts]) for name in Peaks.__dataclass_fields__))


def part_nodes(peaks: Peaks, num_filters: int, max_nodes: int = 4, apart: float = 0.4, seed: int = 0) -> list[Node]:
    """Divide the peaks of each filter into nodes, by what the other filters do there.

    Of 1 to `max_nodes` groups (k-means on the surroundings, as unit vectors) the number with the clearest division is
    taken, if its silhouette exceeds `apart`, each group has a tenth of the peaks, and their means are 0.5 apart; one
    node otherwise.

    `handful.explain.layered_graph` builds a graph over several layers on these nodes, as its source does: Zhang et al.
    2018, "Interpreting CNN knowledge via an explanatory graph" (arXiv 1708.01785).

    Args:
        peaks: of all images.
        num_filters: S.
        max_nodes: per filter, at most.
        apart: in [0, 1].
        seed: of the beginnings of k-means.

    Example:
        >>> part_nodes(find_peaks(torch.eye(4).reshape(1, 4, 2, 2), [0]), 4)[0].share
        1.0
    """
    check_whole("max_nodes", max_nodes, 1)
    nodes = []
    for unit in range(num_filters):
        own = (peaks.filters == unit).nonzero()[:, 0]
        if not len(own):
            continue
        groups = _groups(functional.normalize(peaks.surroundings[own], dim=1).numpy(), max_nodes, apart, seed)
        for group in range(int(groups.max()) + 1):
            members = own[torch.from_numpy(groups == group)]
            nodes.append(Node(unit, len(members), len(members) / len(own), members))
    return nodes


def stable_edges(peaks: Peaks, nodes: Sequence[Node], deviation: float = 0.05, together: float = 0.5) -> list[Edge]:
    """The pairs of nodes that keep their places to one another.

    Args:
        peaks: of all images.
        nodes: of `part_nodes`.
        deviation: largest root mean square of the distance from the mean offset, as a share of the image's side.
        together: share of the images of the rarer node in which the other must be too.

    Example:
        >>> peaks = joined([find_peaks(torch.eye(4).reshape(1, 4, 2, 2), [i]) for i in range(3)])
        >>> edges = stable_edges(peaks, part_nodes(peaks, 4))
        >>> len(edges), edges[0].offset, edges[0].deviation
        (6, (0.5, 0.0), 0.0)
    """
    where = [_first_places(peaks, node) for node in nodes]
    edges = []
    for one in range(len(nodes)):
        for other in range(one + 1, len(nodes)):
            shared = sorted(where[one].keys() & where[other].keys())
            if nodes[one].filter == nodes[other].filter or len(shared) < 2:
                continue
            if len(shared) < together * min(len(where[one]), len(where[other])):
                continue
            offsets = torch.stack([where[other][image] - where[one][image] for image in shared])
            mean = offsets.mean(dim=0)
            spread = float((offsets - mean).square().sum(dim=1).mean().sqrt())
            if spread <= deviation:
                edges.append(Edge((one, other), (float(mean[0]), float(mean[1])), spread, len(shared)))
    return sorted(edges, key=lambda edge: edge.deviation)


def _first_places(peaks: Peaks, node: Node) -> dict[int, Tensor]:
    """Image → place of the node's strongest peak there."""
    found: dict[int, Tensor] = {}
    for member in node.members.tolist():
        found.setdefault(int(peaks.images[member]), peaks.places[member])
    return found


def _groups(rows: np.ndarray, max_nodes: int, apart: float, seed: int) -> np.ndarray:
    best, groups = apart, np.zeros(len(rows), dtype=np.int64)
    distinct = len(np.unique(rows.round(6), axis=0))
    for count in range(2, min(max_nodes, distinct) + 1):
        found = KMeans(count, n_init=3, random_state=seed).fit_predict(rows)
        if len(rows) <= count or np.bincount(found).min() < _SMALLEST * len(rows):
            continue
        centres = torch.from_numpy(np.stack([rows[found == group].mean(axis=0) for group in range(count)]))
        if float(torch.pdist(centres).min()) < _DIFFERENT:
            continue
        score = float(silhouette_score(rows, found, sample_size=min(len(rows), _JUDGED), random_state=seed))
        if score > best:
            best, groups = score, found.astype(np.int64)
    return groups
