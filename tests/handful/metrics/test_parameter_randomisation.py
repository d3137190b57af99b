"""Parameter randomisation: what is randomised and in which order, known points, references."""

import numpy
import pytest
import scipy.stats
import torch
from torch import nn

from handful.attribution import attribute
from handful.errors import UserError
from handful.metrics.parameter_randomisation import (
    ParameterRandomisation,
    map_similarity,
    randomisable_layers,
    randomise,
    randomised_maps,
)
from handful.networks import Classifier
from handful.networks.heads import SparseHead
from tests.handful.attribution.nets import ConvBackbone, images, relu_classifier


class Swapped(nn.Module):
    """Runs its layers in another order than it names them."""

    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Linear(4, 2), nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.last(self.first(x).mean((2, 3)))


def test_layers_come_from_the_last_that_runs_to_the_first():
    assert randomisable_layers(Swapped(), images(1)) == ["last", "first"]
    model = relu_classifier()
    assert randomisable_layers(model, images(2)) == [
        "head.linear",
        "backbone.4",
        "backbone.3",
        "backbone.1",
        "backbone.0",
    ]
    assert model.training
    with pytest.raises(UserError, match="given as a function"):
        list(randomised_maps(lambda x: x.flatten(1)[:, :4], images(2), "occlusion"))


def test_weights_in_buffers_change_places_and_integers_stay():
    head = SparseHead(6, 4, 3)
    weight = torch.arange(12.0).reshape(4, 3)
    head.fill(torch.tensor([5, 1, 2]), torch.rand(3), torch.rand(3) + 1, weight, torch.rand(4))
    randomise(head, torch.Generator().manual_seed(0))
    assert not torch.equal(head.weight, weight)
    assert sorted(head.weight.flatten().tolist()) == sorted(weight.flatten().tolist())
    assert head.selection.tolist() == [5, 1, 2]
    model = Classifier(ConvBackbone(nn.Conv2d(3, 6, 3), num_features=6), head)
    assert randomisable_layers(model, images(1)) == ["head", "backbone.0"]


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_a_cascade_keeps_what_it_has_randomised(order):
    model, x = relu_classifier(), images(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    changed = []

    class Watched(nn.Module):  # notes which weights are new whenever it is explained
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, given):
            now = self.inner.state_dict()
            changed.append({n.rsplit(".", 1)[0] for n in now if not torch.equal(now[n], before[n])})
            return self.inner(given)

    names = [name for name, _ in randomised_maps(Watched(), x, "gradient", [1, 2], order)]
    assert names == [
        "",
        *(f"inner.{n}" for n in ("head.linear", "backbone.4", "backbone.3", "backbone.1", "backbone.0")),
    ]
    steps = [changed[0], *dict.fromkeys(frozenset(c) for c in changed if c)]
    assert steps[0] == set()
    assert [len(s) for s in steps[1:]] == ([1, 2, 3, 4, 5] if order == "cascading" else [1] * 5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_class_stays_that_of_the_clean_model():
    model, x = relu_classifier().eval(), images(3)
    classes = model(x).argmax(1)
    maps = dict(randomised_maps(model, x, "gradient", layers=["head"]))
    torch.testing.assert_close(maps[""], attribute(model, x, classes, method="gradient").map().double())


def test_a_method_that_ignores_the_weights_stays_and_the_gradient_goes():
    model, x = relu_classifier(), images(4)
    layers = randomisable_layers(model, x)
    found = {}
    for method in ("gradient", "input_x_gradient"):
        metric = ParameterRandomisation(method, layers, similarity="rank")
        metric.update(model, x[:1])
        metric.update(model, x[1:])
        found[method] = float(metric.compute())
        assert metric.by_layer()["rank"].shape == (5,)
    assert abs(found["input_x_gradient"]) < 0.4

    from handful.attribution import register, unregister

    @register("brightness_of_test")
    def brightness(context):
        return context.images.mean(1, keepdim=True)

    try:
        metric = ParameterRandomisation("brightness_of_test", layers)
        metric.update(model, x)
        assert float(metric.compute()) == pytest.approx(1)
    finally:
        unregister("brightness_of_test")


def test_similarities_are_scipys_and_those_of_constant_maps_are_not_defined():
    first, second = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(0)).unbind(0)
    found = map_similarity(first, second)
    for row in range(3):
        a, b = first[row].flatten().numpy(), second[row].flatten().numpy()
        assert float(found[row, 0]) == pytest.approx(scipy.stats.spearmanr(a, b)[0])
        assert float(found[row, 1]) == pytest.approx(scipy.stats.spearmanr(numpy.abs(a), numpy.abs(b))[0])
    flat = torch.ones(3, 8, 9)
    rounded = flat / 3 + 1e-8 * first.sign()  # what float32 leaves of a constant map
    signs = first.sign()  # an order, but magnitudes without one
    for pair in ((first, flat), (flat, first), (flat, flat), (0 * flat, 0 * flat), (rounded, first)):
        assert bool(map_similarity(*pair).isnan().all())
    assert map_similarity(signs, first).isnan().tolist() == [[False, True, True]] * 3
    with pytest.raises(UserError, match="second: row 1 holds"):
        map_similarity(first, torch.where(torch.arange(3)[:, None, None] == 1, torch.nan, second))


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_a_constant_map_neither_passes_nor_fails(order):
    from handful.attribution import register, unregister

    @register("flat_of_test")
    def flat(context):
        where_bright = context.images.mean((1, 2, 3)) > 0.5  # a constant map of every image but the bright ones
        return context.images.mean(1, keepdim=True) * where_bright.reshape(-1, 1, 1, 1)

    model, x = relu_classifier(), images(4).clamp(0, 0.4)
    layers = randomisable_layers(model, x)
    try:
        metric = ParameterRandomisation("flat_of_test", layers, order)
        metric.update(model, x)
        assert torch.isnan(metric.compute())
        assert metric.left_out.tolist() == [[4, 4, 4]] * len(layers)
        metric.update(model, torch.cat([x[:1], x[1:2] + 0.7]))
        assert float(metric.compute()) == pytest.approx(1)  # of the one image with a map, which stays
        assert int(metric.counts[0, 0]) == 1
        assert int(metric.left_out[0, 0]) == 5
    finally:
        unregister("flat_of_test")


def test_bad_requests():
    model, x = relu_classifier(), images(2)
    with pytest.raises(UserError, match="no layer"):
        list(randomised_maps(model, x, "gradient", layers=["tail"]))
    with pytest.raises(UserError, match="order"):
        list(randomised_maps(model, x, "gradient", order="upwards"))
    with pytest.raises(UserError, match="similarity"):
        ParameterRandomisation("gradient", ["head"], similarity="hog")
    with pytest.raises(UserError, match="there are none"):
        ParameterRandomisation("gradient", [])
