"""An explanatory graph over several layers: nodes of a lower layer have their places by nodes of the layer above."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from handful.conversions import check_whole
from handful.explain.part_graph import Node, Peaks, part_nodes

#: Standard deviation of an offset, as a share of the image's side: at least, and at most.
_FINEST, _COARSEST = 0.02, 0.06

#: Share of a filter's peaks that a node has at least, and of the node's peaks for which a parent must be there.
_SMALLEST, _TOGETHER = 0.2, 0.5

#: Peaks of a node at least: fewer may agree by chance.
_FEWEST = 3

#: Rounds of assigning peaks to nodes and finding parents again, at most.
_ROUNDS = 10


@dataclass(frozen=True)
class Link:
    """Where a node lies as seen from a node of the layer above.

    Attributes:
        parent: number of the node above.
        offset: mean x and y from the parent to the node, as shares of the image's sides.
        deviation: standard deviation of either coordinate of the offset.
        peaks: of the node in images that show the parent.

    Example:
        >>> Link(0, (0.1, -0.2), 0.02, 40).offset
        (0.1, -0.2)
    """

    parent: int
    offset: tuple[float, float]
    deviation: float
    peaks: int


@dataclass(frozen=True)
class GraphLayer:
    """The nodes of one layer.

    Attributes:
        name: of the layer.
        peaks: of its filters in all images.
        nodes: part patterns; the share of each is that of its filter's peaks.
        links: per node, those to nodes of the layer above, the firmest first; empty in the top layer.

    Example:
        >>> from handful.explain.part_graph import find_peaks
        >>> layer = explanatory_graph([("maps", find_peaks(torch.eye(4).reshape(1, 4, 2, 2), [0]))])[0]
        >>> len(layer.nodes), layer.unexplained
        (4, 0.0)
    """

    name: str
    peaks: Peaks
    nodes: tuple[Node, ...]
    links: tuple[tuple[Link, ...], ...]

    @property
    def unexplained(self) -> float:
        """The share of peaks that belong to no node; NaN without peaks."""
        total = len(self.peaks.filters)
        return 1 - sum(node.peaks for node in self.nodes) / total if total else math.nan


def explanatory_graph(
    layers: Sequence[tuple[str, Peaks]], max_nodes: int = 4, parents: int = 3, seed: int = 0
) -> list[GraphLayer]:
    """Build the graph from the top layer down.

    The peaks of a filter of the top layer are divided by what the other filters do there (`part_nodes`). In each layer
    below, the peaks of a filter are a mixture: a node gives a peak the density of normal offsets from its `parents`
    firmest nodes of the layer above, geometrically averaged, each from where the parent is in that image; a peak that
    no node makes likelier than anywhere in the image belongs to none. Nodes start at the offsets that most images
    share, and peaks and parents are assigned in turn until nothing changes. A node is in an image where the strongest
    and likeliest of its peaks is, and the next layer is placed by that.

    Args:
        layers: name and peaks of each layer, from the top (the last of the network) down.
        max_nodes: per filter, at most.
        parents: nodes above that a node is placed by, at most.
        seed: of the beginnings of k-means in the top layer.

    Source: Zhang et al. 2018, "Interpreting CNN knowledge via an explanatory graph" (arXiv 1708.01785), section 3:
        a mixture per filter with a node for noise, placed by M nodes of the layer above, learned top-down. Here peaks
        stand for all active units, peaks are assigned as a whole, every link has its own deviation, and the top layer,
        which has nothing above, is divided by its surroundings instead of by places in the image.

    Example:
        >>> from handful.explain.part_graph import find_peaks
        >>> maps = torch.eye(4).reshape(1, 4, 2, 2).expand(3, -1, -1, -1)
        >>> top, below = explanatory_graph([("top", find_peaks(maps, range(3))), ("low", find_peaks(maps, range(3)))])
        >>> len(below.nodes), below.links[0][0].deviation
        (4, 0.02)
    """
    check_whole("max_nodes", max_nodes, 1)
    check_whole("parents", parents, 1)
    found: list[GraphLayer] = []
    for name, peaks in layers:
        filters = peaks.filters.unique().tolist()
        if not found:
            top = part_nodes(peaks, max(filters, default=-1) + 1, max_nodes, seed=seed)
            found.append(GraphLayer(name, peaks, tuple(top), ((),) * len(top)))
            continue
        above = _places(found[-1], peaks.images)
        nodes: list[Node] = []
        links: list[tuple[Link, ...]] = []
        for number in filters:
            own = (peaks.filters == number).nonzero()[:, 0]
            for members, its_links in _mixture(peaks.places[own, None] - above[own], peaks, own, max_nodes, parents):
                nodes.append(Node(number, len(members), len(members) / len(own), own[members]))
                links.append(its_links)
        found.append(GraphLayer(name, peaks, tuple(nodes), tuple(links)))
    return found


def _places(layer: GraphLayer, images: Tensor) -> Tensor:
    """Where each node is in each of `images (P,)`, float64 `(P, V, 2)`; NaN where it is not."""
    names, rows = images.unique(return_inverse=True)
    places = np.full((len(names), len(layer.nodes), 2), np.nan)
    for number, node in enumerate(layer.nodes):
        members = node.members.flip(0)  # of several in an image the first counts: numpy keeps what is written last
        members = members[torch.isin(layer.peaks.images[members], names)]
        row = torch.searchsorted(names, layer.peaks.images[members])
        places[row.numpy(), number] = layer.peaks.places[members].numpy()
    return torch.from_numpy(places)[rows]


def _mixture(
    offsets: Tensor, peaks: Peaks, own: Tensor, max_nodes: int, parents: int
) -> list[tuple[Tensor, tuple[Link, ...]]]:
    """Divide the peaks of one filter: for each node the numbers of its members among them, likeliest first, and links.

    Args:
        offsets: `(E, V, 2)` of its peaks from the nodes above; NaN where these are not in the image.
        peaks: of the layer.
        own: int64 `(E,)`, the filter's among them.
        max_nodes: at most.
        parents: at most.
    """
    least = max(_FEWEST, math.ceil(_SMALLEST * len(own)))
    assigned = torch.full((len(own),), -1)
    for number in range(max_nodes):
        members = _densest(offsets, peaks.images[own], assigned < 0)
        if len(members) < least:
            break
        assigned[members] = number
    density = torch.zeros(0, len(own), dtype=torch.float64)
    groups: list[tuple[Link, ...]] = []
    for _ in range(_ROUNDS):
        before = assigned
        links = [_links(offsets, (assigned == number).nonzero()[:, 0], parents) for number in range(max_nodes)]
        groups = [one for number, one in enumerate(links) if one and int((assigned == number).sum()) >= least]
        if not groups:
            return []
        density = torch.stack([_log_density(offsets, one) for one in groups])
        likeliest, assigned = density.max(dim=0)
        assigned = torch.where(likeliest > 0, assigned, -1)  # anywhere in the image has the density 1
        if torch.equal(assigned, before):
            break
    found = []
    for number, its_links in enumerate(groups):
        members = (assigned == number).nonzero()[:, 0]
        if len(members) >= least:
            merit = density[number, members] + peaks.values[own[members]].double().log()
            found.append((members[merit.argsort(descending=True, stable=True)], its_links))
    return found


def _densest(offsets: Tensor, images: Tensor, free: Tensor) -> Tensor:
    """The free peaks around the offset, from any node above, that most of them share."""
    bins = math.ceil(2 / _COARSEST)
    rows = free.nonzero()[:, 0]
    there = ~offsets[rows].isnan().any(dim=2)  # (E, V)
    if not bool(there.any()):
        return rows[:0]
    cell = ((offsets[rows].nan_to_num(0) + 1) / 2 * bins).long().clamp(0, bins - 1)
    count = torch.zeros(offsets.shape[1], bins, bins)
    node = torch.arange(offsets.shape[1]).expand_as(there)[there]
    y, x = cell[..., 1][there], cell[..., 0][there]
    count.index_put_((node, y, x), torch.ones(len(node)), accumulate=True)
    around = functional.avg_pool2d(count[:, None], 3, stride=1, padding=1, divisor_override=1)[:, 0]
    parent, row, column = (int(one) for one in torch.unravel_index(around.argmax(), around.shape))
    near = there[:, parent] & ((cell[:, parent] - torch.tensor([column, row])).abs().amax(dim=1) <= 1)
    return rows[near]


def _links(offsets: Tensor, members: Tensor, parents: int) -> tuple[Link, ...]:
    """The firmest links of a node to those above, the firmest first; none where no node above places it."""
    if len(members) < 2:
        return ()
    own = offsets[members]
    there = ~own.isnan().any(dim=2)
    count = there.sum(dim=0)
    mean = own.nan_to_num(0).sum(dim=0) / count[:, None]
    spread = ((own - mean).square().sum(dim=2).nan_to_num(0) * there).sum(dim=0) / (2 * count)
    deviation = spread.sqrt().clamp(min=_FINEST)
    firm = (count >= max(2, _TOGETHER * len(members))) & (deviation <= _COARSEST)
    order = torch.where(firm, deviation, torch.inf).argsort(stable=True)[:parents].tolist()
    return tuple(
        Link(v, (float(mean[v, 0]), float(mean[v, 1])), float(deviation[v]), int(count[v])) for v in order if firm[v]
    )


def _log_density(offsets: Tensor, links: tuple[Link, ...]) -> Tensor:
    """Log of the density of each peak `(E,)` under a node; −∞ in images that show none of its parents."""
    terms = torch.stack([
        -(offsets[:, link.parent] - torch.tensor(link.offset)).square().sum(dim=1) / (2 * link.deviation**2)
        - math.log(2 * math.pi * link.deviation**2)
        for link in links
    ])  # fmt: skip
    return torch.where(terms.isnan().all(dim=0), -torch.inf, terms.nanmean(dim=0))


def part_purity(owners: Sequence[Tensor], on_part: Tensor) -> float:
    """Return the mean share of peaks on the part that is most frequent among their owner's, over owned peaks on parts.

    Of nodes, compared with that of whole filters, it says whether the graph divides what a filter mixes. In [0, 1].

    Args:
        owners: of each node or filter, int64 numbers of its peaks.
        on_part: bool `(P, K)`, whether a peak lies on each part.

    Returns:
        NaN where no peak lies on a part.

    Example:
        >>> on_part = torch.tensor([[True, False], [True, False], [False, True], [False, True]])
        >>> part_purity([torch.arange(4)], on_part), part_purity([torch.arange(2), torch.arange(2, 4)], on_part)
        (0.5, 1.0)
    """
    most = total = 0
    for members in owners:
        seen = on_part[members]
        most += int(seen.sum(dim=0).max()) if seen.numel() else 0
        total += int(seen.any(dim=1).sum())
    return most / total if total else math.nan
