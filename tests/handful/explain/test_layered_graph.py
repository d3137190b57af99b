"""The graph over several layers: planted parts have nodes, each placed by the part above that it moves with."""

import math

import pytest
import torch

from handful.errors import UserError
from handful.explain.layer_maps import layer_maps, stage_layers
from handful.explain.layered_graph import explanatory_graph, part_purity
from handful.explain.part_graph import find_peaks, joined
from handful.networks import build_classifier

IMAGES = 60


def at(maps, unit, y, x, strength=1.0):
    maps[torch.arange(len(maps)), unit, y, x] = strength


def planted(images=IMAGES, seed=0):
    """Two things, A and B, that move independently, in three layers.

    Top (12 × 12): filter 0 fires at A and B, 1 at A, 2 at B. Middle (24 × 24): filter 0 fires 4 right of A and 3 below
    B, 1 anywhere, 2 at A alone. Bottom (48 × 48): filter 0 fires 6 above what middle filter 2 marks.
    """
    g = torch.Generator().manual_seed(seed)
    ay, ax = torch.randint(2, 5, (images,), generator=g), torch.randint(1, 7, (images,), generator=g)
    by, bx = torch.randint(6, 10, (images,), generator=g), torch.randint(1, 10, (images,), generator=g)
    top, middle, bottom = (torch.rand(images, n, s, s, generator=g) * 0.05 for n, s in ((3, 12), (3, 24), (1, 48)))
    at(top, 0, ay, ax, 1.0 + 0.1 * torch.rand(images, generator=g))
    at(top, 0, by, bx)
    at(top, 1, ay, ax)
    at(top, 2, by, bx)
    at(middle, 0, 2 * ay, 2 * ax + 4)
    at(middle, 0, 2 * by + 3, 2 * bx, 0.9)
    at(middle, 1, *torch.randint(0, 24, (2, images), generator=g))
    at(middle, 2, 2 * ay, 2 * ax)
    at(bottom, 0, 4 * ay - 6, 4 * ax)
    return {"top": top, "middle": middle, "bottom": bottom}, {"A": (ay, ax), "B": (by, bx)}


def graph(batch=25):
    layers, things = planted()
    parts = [
        (name, joined([find_peaks(maps[i : i + batch], range(i, min(i + batch, IMAGES)), surroundings=name == "top")
                       for i in range(0, IMAGES, batch)]))
        for name, maps in layers.items()
    ]  # fmt: skip
    return explanatory_graph(parts), things


def nodes_of(layer, unit):
    return [number for number, node in enumerate(layer.nodes) if node.filter == unit]


def test_a_lower_filter_of_two_parts_has_a_node_for_each_placed_by_its_own_part():
    (top, middle, _), _ = graph()
    assert [len(nodes_of(top, unit)) for unit in range(3)] == [2, 1, 1]
    two = nodes_of(middle, 0)
    assert len(two) == 2
    assert [middle.nodes[number].peaks for number in two] == [IMAGES, IMAGES]
    offsets = {}
    for number in two:
        link = middle.links[number][0]
        assert link.peaks == IMAGES
        assert link.deviation == 0.02  # the least there is: it never moves
        offsets[link.parent] = link.offset
        parents = {top.nodes[one.parent].filter for one in middle.links[number]}
        assert len(parents & {1, 2}) == 1  # A or B, never both
    by_part = sorted(offsets.values())
    # 4 to the right and 3 down of 24, from the middle of a cell twice as large
    half = 0.25 / 12
    assert by_part[0] == pytest.approx((-half, 3 / 24 - half), abs=1e-6)
    assert by_part[1] == pytest.approx((4 / 24 - half, -half), abs=1e-6)


def test_a_filter_that_fires_anywhere_has_no_node_and_its_peaks_are_unexplained():
    (_, middle, _), _ = graph()
    assert nodes_of(middle, 1) == []
    whole = len(middle.peaks.filters)
    assert middle.unexplained == pytest.approx(1 - 3 * IMAGES / whole)


def test_the_bottom_layer_is_placed_by_the_middle_one():
    (_, middle, bottom), _ = graph()
    (number,) = nodes_of(bottom, 0)
    link = bottom.links[number][0]
    above = middle.nodes[link.parent]
    assert (above.filter, above.peaks) in {(2, IMAGES), (0, IMAGES)}  # both keep their place to A
    if above.filter == 2:
        assert link.offset == pytest.approx((-0.5 / 48, -6.5 / 48), abs=1e-6)


def test_nodes_divide_what_filters_mix():
    (_, middle, _), things = graph()
    peaks = middle.peaks
    rows = peaks.images
    near = []
    for y, x in things.values():
        place = torch.stack([x[rows], y[rows]], dim=1).double() / 12
        near.append((peaks.places - place).norm(dim=1) < 0.25)
    on_part = torch.stack(near, dim=1)
    on_part &= ~on_part.all(dim=1, keepdim=True)
    filters = [(peaks.filters == unit).nonzero()[:, 0] for unit in (0, 2)]
    nodes = [node.members for node in middle.nodes]
    assert part_purity(nodes, on_part) > 0.95
    assert part_purity(filters, on_part) < 0.8


def test_shuffled_images_explain_little_and_their_links_are_loose():
    layers, _ = planted()
    g = torch.Generator().manual_seed(3)
    shuffled = layers["middle"][torch.randperm(IMAGES, generator=g)]
    _, middle = explanatory_graph([
        ("top", find_peaks(layers["top"], range(IMAGES))), ("middle", find_peaks(shuffled, range(IMAGES))),
    ])  # fmt: skip
    assert middle.unexplained > 0.5
    assert all(link.deviation > 0.02 for links in middle.links for link in links)


def test_the_layers_of_a_network_and_those_it_does_not_have():
    model = build_classifier({"backbone": "cifar_resnet20", "options": {"width": 2}}, 2).train()
    x = torch.rand(2, 3, 16, 32)
    names = stage_layers(model, x)
    assert names == ["backbone.layer2", "backbone.layer1"]
    assert stage_layers(model, x, 1) == names[:1]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    maps = layer_maps(model, x, names)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [tuple(one.shape) for one in maps.values()] == [(2, 4, 8, 16), (2, 2, 16, 32)]
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(UserError, match='no layer "backbone'):
        layer_maps(model, x, ["backbone.layer9"])
    with pytest.raises(UserError, match='"head" gives no maps'):
        layer_maps(model, x, ["head"])


def test_nothing_above_nothing_below_and_bad_requests():
    dead, live = find_peaks(torch.zeros(3, 2, 4, 4), range(3)), find_peaks(torch.rand(3, 2, 4, 4), range(3))
    top, below = explanatory_graph([("top", dead), ("below", live)])
    assert (top.nodes, below.nodes) == ((), ())
    assert math.isnan(top.unexplained)
    assert below.unexplained == 1
    top, below = explanatory_graph([("top", live), ("below", dead)])
    assert below.nodes == ()
    other = find_peaks(torch.rand(3, 2, 4, 4), range(5, 8))  # of other images
    assert explanatory_graph([("top", live), ("below", other)])[1].nodes == ()
    assert math.isnan(part_purity([], torch.zeros(0, 2, dtype=torch.bool)))
    with pytest.raises(UserError, match="parents"):
        explanatory_graph([("top", live)], parents=0)
