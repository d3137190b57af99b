"""Dissection, location instability and receptive fields: references, planted filters, bad input, two processes."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from handful.annotations import BirdAnnotations, Concept
from handful.birds import ToyBirdsDataset
from handful.errors import UserError
from handful.metrics import ActivationThresholds, LocationInstability, NetworkDissection, histogram, receptive_field
from tests.helpers.two_processes import every_second, on_two_processes

CONCEPTS = [Concept("wing", "part"), Concept("bird", "object"), Concept("sky", "scene")]


def made(images=9, units=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    maps = torch.randn(images, units, 5, 5, generator=g)
    masks = torch.rand(images, 3, 15, 15, generator=g) > 0.7
    searched = torch.rand(images, 3, generator=g) > 0.3
    return maps, masks, searched


def test_dissection_against_loops():
    maps, masks, searched = made()
    thresholds = torch.quantile(maps.transpose(0, 1).flatten(1).double(), 0.9, dim=1)
    metric = NetworkDissection(thresholds, CONCEPTS)
    for start in range(0, 9, 4):
        part = slice(start, start + 4)
        metric.update(maps[part], masks[part], searched[part])
    iou = metric.iou()
    for unit in range(4):
        for concept in range(3):
            both = either = 0
            for image in range(9):
                if searched[image, concept]:
                    large = functional.interpolate(maps[image, unit][None, None], (15, 15), mode="bilinear")[0, 0]
                    on, label = (large >= thresholds[unit]).numpy(), masks[image, concept].numpy()
                    both += int((on & label).sum())
                    either += int((on | label).sum())
            assert float(iou[unit, concept]) == pytest.approx(both / either, rel=1e-12)


@pytest.mark.parametrize("relu", [False, True])
def test_thresholds_are_met_by_the_share_of_positions(relu):
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(60, 3, 20, 20, generator=g) * torch.tensor([1.0, 50.0, 1e-4])[:, None, None] + 1e-5
    maps = maps.relu() if relu else maps
    metric = ActivationThresholds(3)
    for part in maps.split(7):
        metric.update(part)
    share = (maps.double() >= metric.compute()[:, None, None]).double().mean(dim=(0, 2, 3))
    assert share.numpy() == pytest.approx(0.005, abs=1e-4)


SKEWED = {
    "one of a million": lambda x: torch.where(torch.arange(x.numel()).reshape(x.shape) == 5, 1e6, x),
    "one below all others": lambda x: torch.where(torch.arange(x.numel()).reshape(x.shape) == 5, -1e6, x.relu()),
    "lognormal": lambda x: (3 * x).exp(),
    "far from 0": lambda x: x + 1e4,
    "tiny and huge": lambda x: x * 10.0 ** (10 * x.flip(0)),
    "negative": lambda x: -x.abs() - 5,
}


@pytest.mark.parametrize("skew", SKEWED.values(), ids=SKEWED)
@pytest.mark.parametrize("share", [0.005, 0.02, 0.3])
def test_thresholds_of_skewed_activations(skew, share):
    """Beside exact quantiles: the share is met to a fifth of it, whatever a single activation does to the range."""
    maps = skew(torch.randn(60, 1, 9, 11, generator=torch.Generator().manual_seed(1)))
    metric = ActivationThresholds(1, share)
    for part in maps.split(13):
        metric.update(part)
    threshold = float(metric.compute())
    assert (maps >= threshold).double().mean() == pytest.approx(share, rel=0.2)
    below, above = (maps.double().quantile(1 - part * share) for part in (1.25, 0.75))
    assert below <= threshold <= above


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16])
def test_thresholds_do_not_depend_on_the_order_of_batches_or_on_what_is_counted_at_a_time(kind, monkeypatch):
    maps = 3 * torch.randn(30, 7, 6, 5, generator=torch.Generator().manual_seed(2))
    maps[:, 1] = maps[:, 1].exp()
    maps[:, 2] = 0
    maps[3, 3, 0, 0], maps[4, 4, 0, 0] = 3e4, -3e4
    found, forward = [], torch.arange(30)
    for cells, order, size in ((2**17, forward, 30), (100, forward.flip(0), 7), (1, maps[:, 0, 0, 0].argsort(), 1)):
        monkeypatch.setattr(histogram, "_CELLS", cells)
        metric = ActivationThresholds(7)
        for rows in order.split(size):
            metric.update(maps[rows].to(kind))
        found.append((metric.state.clone(), metric.compute()))
    assert all(torch.equal(state, found[0][0]) and torch.equal(value, found[0][1]) for state, value in found)


@pytest.mark.parametrize("huge", [1e30, -1e30, 3e38])
def test_a_number_beyond_whole_numbers_of_bins_comes_late(huge):
    few, late = torch.tensor([0.0, 1e-9, 2e-9, 5e-10]).reshape(4, 1, 1, 1), torch.tensor([[[[1e-9, huge]]]])
    one, other = ActivationThresholds(1, 0.3), ActivationThresholds(1, 0.3)
    for batch in (few, late):
        one.update(batch)
    for batch in (late, few):
        other.update(batch)
    assert torch.equal(one.state, other.state)
    assert int(one.state[:, 2:].sum()) == 12


class LargestResult(TorchDispatchMode):
    """Bytes of the largest tensor that an operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **kwargs or {})
        made = [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor) and leaf._base is None]
        sizes = [leaf.numel() * leaf.element_size() for leaf in made]
        self.bytes = max(self.bytes, *sizes, 0)
        return found


def test_what_is_counted_takes_less_memory_than_the_maps():
    """It was a copy of them in float64, once per histogram, and several of its size."""
    maps = torch.rand(64, 128, 14, 14)
    metric = ActivationThresholds(128, bins=64)
    metric.update(maps)
    with LargestResult() as largest:
        metric.update(maps)
    assert largest.bytes <= maps.numel() * maps.element_size()


def test_thresholds_of_tied_activations_are_the_nearest_there_are():
    maps = (2 * torch.randn(60, 1, 9, 11, generator=torch.Generator().manual_seed(1))).round()
    metric = ActivationThresholds(1, 0.02)
    metric.update(maps)
    reached = {float((maps >= value).double().mean()) for value in maps.unique()}
    assert float((maps >= float(metric.compute())).double().mean()) == min(reached, key=lambda r: abs(r - 0.02))


def test_planted_detectors_are_found_and_shuffled_labels_have_none():
    birds = BirdAnnotations(ToyBirdsDataset("test", n_classes=4, images_per_class=10, size=48))
    masks = birds.masks(range(40))
    names = [concept.name for concept in birds.concepts]
    units = [names.index(name) for name in ("beak", "wing", "bird", "sky")]
    maps = torch.cat([masks[:, units].float(), torch.zeros(40, 1, 48, 48)], dim=1)  # and a dead unit
    thresholds = ActivationThresholds(5)
    thresholds.update(maps)
    metric = NetworkDissection(thresholds.compute(), birds.concepts)
    metric.update(maps, masks, birds.annotated(range(40)))
    found = metric.detectors()
    assert [concept and concept.name for concept, _ in found] == ["beak", "wing", "bird", "sky", None]
    assert [iou for _, iou in found] == pytest.approx([1, 1, 1, 1, 0])
    counts = {name: float(value) for name, value in metric.compute().items()}
    assert counts == {
        "detectors": 4, "unique_detectors": 4, "unique_detectors_object": 1, "unique_detectors_part": 2,
        "unique_detectors_scene": 1, "unique_detectors_texture": 0,
    }  # fmt: skip
    g = torch.Generator().manual_seed(0)
    dots = torch.rand(30, 1, 20, 20, generator=g) > 0.97
    for labels, detected in ((dots, True), (dots[torch.randperm(30, generator=g)], False)):
        metric = NetworkDissection(torch.full((1,), 0.5), CONCEPTS[:1])
        metric.update(dots.float(), labels)
        assert (metric.detectors()[0][0] is not None) == detected


def test_memory_does_not_grow_with_images():
    maps, masks, searched = made()
    thresholds = ActivationThresholds(4)
    metric = NetworkDissection(torch.zeros(4), CONCEPTS)
    sizes = []
    for _ in range(3):
        thresholds.update(maps)
        metric.update(maps, masks, searched)
        sizes.append([getattr(m, name).numel() for m in (thresholds, metric) for name in m._defaults])
    assert sizes[0] == sizes[1] == sizes[2]


def instability_by_the_book(maps, positions, seen, size, strongest=100):
    """As `computeStability.m` and `getDistSqrtVar.m`."""
    height, width = maps.shape[2:]
    filters = []
    for f in range(maps.shape[1]):
        per_landmark = []
        for k in range(positions.shape[1]):
            rows = []
            for image in range(len(maps)):
                if seen[image, k]:
                    place = int(maps[image, f].argmax())
                    x = (place % width + 0.5) * size[1] / width
                    y = (place // width + 0.5) * size[0] / height
                    distance = math.hypot(x - positions[image, k, 0], y - positions[image, k, 1])
                    rows.append((float(maps[image, f].max()), distance))
            rows.sort(key=lambda row: -row[0])
            distances = [distance for _, distance in rows[:strongest]]
            per_landmark.append(np.std(distances, ddof=1) if len(distances) > 1 else np.nan)
        filters.append(np.mean(per_landmark))
    return np.nanmean(filters) / math.hypot(*size)


def landmarks(images=17, filters=4, parts=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    maps = torch.randn(images, filters, 6, 8, generator=g)
    positions = torch.rand(images, parts, 2, generator=g, dtype=torch.float64) * torch.tensor([64, 48])
    return maps, positions, torch.rand(images, parts, generator=g) > 0.2


@pytest.mark.parametrize("strongest", [5, 100])
def test_location_instability_is_that_of_the_authors_code(strongest):
    maps, positions, seen = landmarks()
    metric = LocationInstability(4, 3, (48, 64), strongest)
    for start in range(0, 17, 5):
        part = slice(start, start + 5)
        metric.update(maps[part], positions[part], seen[part])
    expected = instability_by_the_book(maps, positions, seen, (48, 64), strongest)
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-10)
    scaled = LocationInstability(4, 3, (480, 640), strongest)
    scaled.update(maps, 10 * positions, seen)
    assert float(scaled.compute()) == pytest.approx(expected, rel=1e-10)


def test_a_filter_at_a_fixed_distance_gives_0_and_one_anywhere_much():
    g = torch.Generator().manual_seed(0)
    cells = torch.randint(0, 14, (200, 2), generator=g)
    fixed, anywhere = torch.zeros(200, 16, 16), torch.zeros(200, 16, 16)
    fixed[torch.arange(200), cells[:, 1], cells[:, 0] + 2] = 1.0 + torch.rand(200, generator=g)
    anywhere.flatten(1)[torch.arange(200), torch.randint(0, 256, (200,), generator=g)] = 1.0
    positions = (cells + 0.5)[:, None].double()
    metric = LocationInstability(2, 1, (16, 16))
    metric.update(torch.stack([fixed, anywhere], dim=1), positions)
    locked, lost = metric.per_filter().tolist()
    assert locked == pytest.approx(0, abs=1e-12)
    assert 0.1 < lost < 0.25


@pytest.mark.parametrize("layers", [
    [(3, 1, 1)], [(3, 2, 1), (3, 1, 1)], [(5, 1, 2)], [(3, 1, 1), (3, 1, 1), (3, 2, 1)], [(3, 1, 3)], [(7, 2, 1)],
], ids=str)  # fmt: skip
@pytest.mark.parametrize("padded", [True, False])
def test_receptive_fields_are_as_wide_as_those_of_theory(layers, padded):
    """Layers of (kernel, stride, dilation); without padding, fields are blurred by what is lost at the border."""
    width, jump, modules = 1, 1, []
    for kernel, stride, dilation in layers:
        width, jump = width + (kernel - 1) * dilation * jump, jump * stride
        layer = nn.Conv2d(1, 1, kernel, stride, (kernel - 1) * dilation // 2 if padded else 0, dilation, bias=False)
        nn.init.ones_(layer.weight)
        modules.append(layer)
    images = torch.rand(5, 1, 33, 33, generator=torch.Generator().manual_seed(0)) + 0.5
    (field,) = receptive_field(nn.Sequential(*modules), images, 0, patch=1, stride=1)
    reached = (field.change.nan_to_num(0) > 1e-4 * field.change.nan_to_num(0).max()).nonzero()
    extent = reached.amax(0) - reached.amin(0) + 1
    if padded:
        assert extent.tolist() == [width, width]
        assert (reached.amax(0) + reached.amin(0)).tolist() == [2 * 32, 2 * 32]  # its own place in the middle
    else:
        assert (extent >= width).all()
        assert (extent <= 2 * width).all()


def test_receptive_fields_of_a_network_that_is_known():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    images = torch.rand(4, 1, 20, 20)
    passes = []

    def counted(batch):
        passes.append(len(batch))
        return network(batch)

    fields = receptive_field(counted, images, [0, 1, 2], patch=1, stride=1, above=1e-3)
    assert sum(passes) == 4 * (1 + 400)
    for field in fields:
        assert field.size <= 5
        reached = torch.where(field.change.isnan(), 0.0, field.change)
        assert reached[19 - 2 : 19 + 3, 19 - 2 : 19 + 3].sum() == pytest.approx(float(reached.sum()), rel=1e-4)
    point = nn.Conv2d(1, 1, 1)
    assert receptive_field(point, images, 0, patch=1, stride=1)[0].size == 1
    nothing = receptive_field(lambda batch: torch.zeros(len(batch), 1, 5, 5), images, 0, patch=3, stride=2)
    assert nothing[0].size == 0


def test_one_process_and_two_print_the_same_digits():
    maps, masks, searched = made()
    other, positions, seen = landmarks()

    def work(own):
        thresholds = ActivationThresholds(4, share=0.1)
        thresholds.update(maps[own])
        found = thresholds.compute()
        metric = NetworkDissection(found, CONCEPTS)
        metric.update(maps[own], masks[own], searched[own])
        instability = LocationInstability(4, 3, (48, 64), 5)
        instability.update(other[own], positions[own], seen[own])
        return [found.tolist(), metric.iou().tolist(), float(metric.compute()["detectors"]),
                instability.per_filter().tolist(), float(instability.compute())]  # fmt: skip

    single = work(slice(None))
    assert all(found == single for found in on_two_processes(lambda rank: work(every_second(rank))))


@pytest.mark.parametrize("value", [True, 1.0, 255, np.uint8(255)])
def test_masks_of_any_form(value):
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    given = mask.bool() if value is True else (mask * float(value)).to(torch.uint8 if value == 255 else torch.float32)
    metric = NetworkDissection(torch.tensor([0.5]), CONCEPTS[:1])
    metric.update(mask, given)
    assert float(metric.iou()) == 1


def test_empty_constant_and_missing():
    metric = NetworkDissection(torch.tensor([torch.inf]), CONCEPTS[:1])
    metric.update(torch.zeros(2, 1, 3, 3), torch.zeros(2, 1, 6, 6, dtype=torch.bool))
    assert float(metric.iou()) == 0
    assert NetworkDissection(torch.zeros(2), []).detectors() == [(None, 0.0)] * 2
    constant = ActivationThresholds(1)
    constant.update(torch.ones(2, 1, 3, 3))
    assert math.isinf(float(constant.compute()))
    flat = LocationInstability(1, 1, (4, 4))
    flat.update(torch.ones(5, 1, 2, 2), torch.rand(5, 1, 2))
    assert math.isnan(float(flat.compute()))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ActivationThresholds(1).update(torch.full((1, 1, 2, 2), torch.nan)), "not finite numbers"),
        (lambda: ActivationThresholds(1, share=0), r"share: 0 lies outside \(0, 1\)"),
        (lambda: NetworkDissection(torch.zeros(1), [Concept("red", "color")]), "no kind 'color'"),
        (lambda: NetworkDissection(torch.zeros(1), CONCEPTS).update(torch.rand(1, 1, 2, 2), torch.ones(1, 2, 4, 4)),
         r"masks: expected \(1, 3, H, W\)"),
        (lambda: NetworkDissection(torch.zeros(1), CONCEPTS[:1]).update(torch.rand(1, 1, 2, 2), torch.rand(1, 1, 4, 4)),
         "expected 0 and 1"),
        (lambda: LocationInstability(1, 2, (4, 4)).update(torch.rand(1, 1, 2, 2), torch.rand(1, 1, 2)), "positions"),
        (lambda: receptive_field(nn.Identity(), torch.rand(0, 3, 8, 8), 0), "an image at least"),
        (lambda: receptive_field(nn.Identity(), torch.rand(1, 3, 8, 8), 0, patch=0), "patch: expected at least 1"),
    ],
)  # fmt: skip
def test_what_is_refused(call, sentence):
    with pytest.raises(UserError, match=sentence):
        call()
