"""The explanatory graph: a filter of two parts has two nodes, and parts keep their places."""

import pytest
import torch

from handful.errors import UserError
from handful.explain.part_graph import find_peaks, joined, part_nodes, stable_edges


def planted(images=40, seed=0):
    """Filter 0 fires at parts A and B, 1 at A only, 2 at B only, 3 anywhere; B lies 5 to the right of A."""
    g = torch.Generator().manual_seed(seed)
    maps = torch.rand(images, 4, 10, 14, generator=g) * 0.05
    y, x = torch.randint(1, 9, (images,), generator=g), torch.randint(1, 8, (images,), generator=g)
    all_images = torch.arange(images)
    maps[all_images, 0, y, x] = 1.0 + 0.1 * torch.rand(images, generator=g)
    maps[all_images, 0, y, x + 5] = 1.0
    maps[all_images, 1, y, x] = 1.0
    maps[all_images, 2, y, x + 5] = 1.0
    free = torch.randint(0, 140, (images,), generator=g)
    maps[:, 3].flatten(1)[all_images, free] = 1.0
    return maps


def graph():
    maps = planted()
    peaks = joined([find_peaks(maps[start : start + 16], range(start, min(start + 16, 40))) for start in (0, 16, 32)])
    return peaks, part_nodes(peaks, 4)


def test_a_filter_of_two_parts_has_two_nodes():
    peaks, nodes = graph()
    of = {unit: [node for node in nodes if node.filter == unit] for unit in range(4)}
    assert [len(of[unit]) for unit in range(3)] == [2, 1, 1]
    assert sum(node.share for node in of[0]) == pytest.approx(1)
    assert of[0][0].peaks == of[0][1].peaks == 40
    for node in of[0]:
        beside = peaks.surroundings[node.members].mean(dim=0)
        assert max(beside[1], beside[2]) > 10 * min(beside[1], beside[2])  # the one part or the other


def test_parts_that_keep_their_places_are_joined():
    peaks, nodes = graph()
    edges = stable_edges(peaks, nodes)
    only = {node.filter: number for number, node in enumerate(nodes) if node.filter in (1, 2)}
    found = {edge.nodes: edge for edge in edges}
    edge = found[only[1], only[2]]
    assert edge.offset == pytest.approx((5 / 14, 0))
    assert edge.deviation == pytest.approx(0, abs=1e-6)
    assert edge.images == 40
    anywhere = [number for number, node in enumerate(nodes) if node.filter == 3]
    assert not [pair for pair in found if set(pair) & set(anywhere)]


def test_flat_and_dead_maps_have_no_peaks():
    peaks = find_peaks(torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4), -torch.ones(3, 4, 4)]), [0, 1, 2])
    assert len(peaks.filters) == 0
    assert part_nodes(peaks, 3) == []
    with pytest.raises(UserError, match="maps: row 0 holds"):
        find_peaks(torch.full((1, 1, 2, 2), torch.nan), [0])


def test_the_peaks_are_the_local_maxima():
    maps = torch.zeros(1, 1, 5, 5)
    maps[0, 0, 1, 1], maps[0, 0, 1, 2], maps[0, 0, 4, 4], maps[0, 0, 4, 0] = 4.0, 3.0, 3.0, 1.0
    peaks = find_peaks(maps, [9], per_map=3)
    assert peaks.places.tolist() == [pytest.approx([0.3, 0.3]), pytest.approx([0.9, 0.9])]
