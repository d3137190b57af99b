"""Degradation, sensitivity-n, infidelity, max-sensitivity and sparseness: references, known points, passes."""

import numpy
import pytest
import scipy.stats
import torch
from torch import nn

from handful.attribution import attribute
from handful.errors import UserError
from handful.metrics.degradation import Degradation, degradation
from handful.metrics.infidelity import Infidelity, infidelity
from handful.metrics.max_sensitivity import MaxSensitivity, max_sensitivity
from handful.metrics.sensitivity_n import SensitivityN, correlation, sensitivity_n
from handful.metrics.sparseness import Sparseness, gini
from tests.handful.attribution.nets import images, relu_classifier, smooth_classifier
from tests.handful.metrics.passes import additive, counted_passes, seen_images


def random_maps(count, size=12, seed=0):
    return torch.rand(count, size, size, generator=torch.Generator().manual_seed(seed))


def probability(model, image, label):
    with torch.no_grad():
        return float(model(image[None]).softmax(1)[0, label])


# -- degradation ------------------------------------------------------------------------------------------------------


def test_degradation_is_the_area_between_two_curves_of_tiles():
    model, x, maps = additive(10), images(2, size=10).double(), random_maps(2, 10)
    x = x - x.mean((2, 3), keepdim=True)
    x = x * model(x)[:, 1].sign().reshape(-1, 1, 1, 1).detach()
    found = degradation(model, x, maps, tile=4)
    assert not found.isnan().any()
    for row in range(2):
        label = int(model(x[row : row + 1]).argmax())
        tiles = [(slice(r, r + 4), slice(c, c + 4)) for r in (0, 4, 8) for c in (0, 4, 8)]
        order = sorted(range(9), key=lambda t: -float(maps[row][tiles[t]].double().sum()))
        curves = []
        for way in (order[::-1], order):
            now, curve = x[row].clone(), [probability(model, x[row], label)]
            for tile in way:
                now[:, *tiles[tile]] = x[row].mean((1, 2))[:, None, None]
                curve.append(probability(model, now, label))
            curves.append([(p - curve[-1]) / (curve[0] - curve[-1]) for p in curve])
        if abs(curve[0] - curve[-1]) < 0.05 or curve[0] < curve[-1]:
            assert found[row].isnan()
        else:
            expected = numpy.trapezoid(curves[0], dx=1 / 9) - numpy.trapezoid(curves[1], dx=1 / 9)
            assert float(found[row]) == pytest.approx(expected, abs=1e-9)


def test_degradation_of_contributions_is_the_best_and_that_of_a_constant_map_is_zero():
    model, x = additive(), images(4, size=6).double()
    label = torch.ones(4, dtype=torch.int64)
    x = x - x.mean((2, 3), keepdim=True)  # then a tile's contribution is its change of score
    x = x * model(x)[:, 1].sign().reshape(-1, 1, 1, 1).detach()
    parts = model.contributions(x)
    x, parts, label = x[[0, 2, 3]], parts[[0, 2, 3]], label[1:]  # the score of the other hardly differs from 0
    best = degradation(model, x, parts, label, tile=1)
    assert bool((best > degradation(model, x, random_maps(3, 6), label, tile=1)).all())
    assert bool((best > 0).all())
    assert degradation(model, x, torch.ones(3, 6, 6), label, tile=2).tolist() == [0, 0, 0]
    torch.testing.assert_close(degradation(model, x, -parts, label, tile=1), -best)


def test_degradation_leaves_out_images_whose_probability_hardly_falls():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(108, 2))
    nn.init.zeros_(flat[1].weight)
    metric = Degradation(tile=3)
    metric.update(flat, images(3, size=6), random_maps(3, 6))
    assert (int(metric.count), int(metric.left_out)) == (0, 3)
    assert metric.compute().isnan()


# -- sensitivity-n ----------------------------------------------------------------------------------------------------


def test_sensitivity_n_of_a_linear_models_contributions_is_one_for_every_n():
    model, x = additive(), images(3, size=6).double()
    found = sensitivity_n(model, x, model.contributions(x), [1, 1, 1], sizes=5, subsets=10)
    torch.testing.assert_close(found, torch.ones(3, 5).double(), rtol=0, atol=1e-9)
    metric = SensitivityN(sizes=3, subsets=5, tile=2)
    metric.update(model, x, model.contributions(x), [1, 1, 1])
    assert float(metric.compute()) == pytest.approx(1, abs=1e-9)
    opposite = sensitivity_n(model, x, -model.contributions(x), [1, 1, 1], sizes=2, subsets=10)
    torch.testing.assert_close(opposite, -torch.ones(3, 2).double(), rtol=0, atol=1e-9)


def test_sensitivity_n_is_pearsons_correlation_with_what_went_through_the_model():
    model, x, maps = smooth_classifier(), images(2).double(), random_maps(2)
    with seen_images(model) as seen:
        found = sensitivity_n(model, x, maps, [2, 0], tile=4, sizes=2, subsets=6)
    changed = torch.cat(seen)[2:].reshape(2, 2, 6, 3, 12, 12)
    for row, label in enumerate((2, 0)):
        for n in range(2):
            gone = (changed[row, n] == 0).all(1)
            assert set(gone.sum((1, 2)).tolist()) == {16 * (1, 7)[n]}  # of 9 tiles, 0.8 · 9 rounded
            sums = (gone * maps[row].double()).sum((1, 2))
            falls = model(x[row : row + 1])[0, label] - model(changed[row, n])[:, label]
            assert float(found[row, n]) == pytest.approx(
                scipy.stats.pearsonr(sums.numpy(), falls.detach().numpy())[0], abs=1e-9
            )


def test_sensitivity_n_where_nothing_is_said_or_nothing_happens():
    model, x = additive(), images(2, size=6).double()
    for constant in (0.0, 3.7):
        assert sensitivity_n(model, x, torch.full((2, 6, 6), constant), [1, 1], sizes=2).abs().max() == 0
    still = additive()
    still.weight.data.zero_()
    assert sensitivity_n(still, x, random_maps(2, 6), sizes=2).isnan().all()
    metric = SensitivityN(sizes=2)
    metric.update(still, x, random_maps(2, 6))
    assert metric.left_out.tolist() == [2, 2]
    assert metric.compute().isnan()
    assert correlation(torch.tensor([0.1, 0.1, 0.1]), torch.tensor([1.0, 2.0, 4.0])) == 0


# -- infidelity -------------------------------------------------------------------------------------------------------


def test_infidelity_of_a_linear_model_is_zero():
    model, x = additive(), images(3, size=6).double()
    gradient = model.weight.detach().expand(3, -1, -1, -1)
    for change, maps in (("squares", gradient), ("noise", gradient), ("squares", model.contributions(x))):
        for normalise in (False, True):
            found = infidelity(model, x, maps, [1, 1, 1], change, samples=5, normalise=normalise)
            torch.testing.assert_close(found, torch.zeros(3).double(), rtol=0, atol=1e-20)
    scaled = infidelity(model, x, 7 * gradient, [1, 1, 1], normalise=True)
    torch.testing.assert_close(scaled, torch.zeros(3).double(), rtol=0, atol=1e-20)
    torch.testing.assert_close(
        infidelity(model, x, torch.zeros(3, 6, 6), [1, 1, 1], normalise=True),
        torch.ones(3).double(),
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize("change", ["squares", "noise"])
def test_infidelity_is_the_definition_on_what_went_through_the_model(change):
    model, x = smooth_classifier(), images(2).double()
    gradient = attribute(model, x, method="gradient").raw
    with seen_images(model) as seen:
        found = infidelity(model, x, gradient, change=change, samples=4)
    changed = torch.cat(seen)[2:].reshape(2, 4, 3, 12, 12)
    for row in range(2):
        label = int(model(x[row : row + 1]).argmax())
        taken = x[row] - changed[row]
        if change == "squares":
            assert set((taken != 0).any(1).sum((1, 2)).tolist()) == {9}
        falls = model(x[row : row + 1])[0, label] - model(changed[row])[:, label]
        expected = ((taken * gradient[row]).sum((1, 2, 3)) - falls).square().mean().detach()
        assert float(found[row]) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("decides", ["one part", "two parts", "a mark in the corner", "the absence of a part"])
def test_an_inverted_explanation_is_the_worst_in_every_measure(decides):
    """What decides is planted; exact contributions against their negative, a constant map and random ones."""
    g = torch.Generator().manual_seed(2)
    images, random = torch.randn(6, 3, 12, 12, generator=g), torch.rand(6, 12, 12, generator=g)
    regions = {"two parts": [(2, 2), (7, 7)], "a mark in the corner": [(0, 0)]}.get(decides, [(2, 2)])
    sign = -1.0 if decides == "the absence of a part" else 1.0
    weight = torch.zeros(1, 3, 12, 12)
    for top, left in regions:
        weight[..., top : top + 3, left : left + 3] = sign * torch.randn(1, 3, 3, 3, generator=g)

    class Planted(nn.Module):
        def forward(self, x):
            score = (weight * x).sum(dim=(1, 2, 3))
            return torch.stack([score, -score], dim=1)

    exact = (weight * images).sum(dim=1)
    maps = {"exact": exact, "random": random, "constant": torch.ones_like(exact), "inverted": -exact}
    given = Planted(), images, torch.zeros(6, dtype=torch.int64)
    infidelities, agreement = {}, {}
    for name, one in maps.items():
        infidelities[name] = infidelity(given[0], given[1], one, given[2], normalise=True).mean()
        agreement[name] = sensitivity_n(given[0], given[1], one, given[2], tile=3, sizes=3, subsets=20).nanmean()
    assert infidelities["exact"] < 1e-6
    assert infidelities["exact"] < infidelities["random"] <= infidelities["inverted"] == 1
    assert agreement["exact"] == pytest.approx(1, abs=1e-5)
    assert agreement["inverted"] == pytest.approx(-1, abs=1e-5)
    assert agreement["constant"] == 0
    assert agreement["random"].abs() < 0.6


def test_infidelity_of_a_model_that_never_changes():
    still = additive()
    still.weight.data.zero_()
    metric = Infidelity(normalise=True)
    metric.update(still, images(2, size=6).double(), random_maps(2, 6))
    assert (int(metric.count), int(metric.left_out)) == (0, 2)
    with pytest.raises(UserError, match="noise needs maps"):
        infidelity(still, images(2, size=6).double(), random_maps(2, 6), change="noise")


# -- max-sensitivity --------------------------------------------------------------------------------------------------


def test_max_sensitivity_is_the_largest_relative_change():
    model, x = smooth_classifier(), images(2).double()
    asked = []

    def explain(model, given, classes):
        asked.append(given)
        return attribute(model, given, classes, method="gradient").raw

    found = max_sensitivity(model, x, explain, samples=3)
    assert max(float((one - x).abs().max()) for one in asked) <= 0.02
    maps = [attribute(model, one, model(x).argmax(1), method="gradient").raw.flatten(1) for one in asked]
    expected = torch.stack([(one - maps[0]).norm(dim=1) for one in maps[1:]]).amax(0) / maps[0].norm(dim=1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(max_sensitivity(model, x, "gradient", samples=3), expected)


def test_max_sensitivity_of_maps_of_zeros_and_of_random_methods():
    model, x = smooth_classifier(), images(2).double()
    assert max_sensitivity(model, x, lambda m, i, c: torch.zeros(2, 3)).tolist() == [0, 0]
    assert max_sensitivity(model, x, lambda m, i, c: (i - x).flatten(1)).isnan().all()
    linear = additive()
    # the noise is the clean image's throughout: nothing but the image changes
    assert float(max_sensitivity(linear, images(2, size=6).double(), "smoothgrad", samples=2).max()) < 1e-9
    few = {"samples": 3}  # of the method, and not of the measure
    assert float(max_sensitivity(linear, images(2, size=6).double(), "smoothgrad", samples=1, options=few).max()) < 1e-9
    with pytest.raises(UserError, match="no attribution method"):
        MaxSensitivity("gradeint").update(model, x)


# -- sparseness -------------------------------------------------------------------------------------------------------


def test_gini_of_known_maps():
    one = torch.zeros(1, 4, 5)
    one[0, 1, 2] = -3
    assert float(gini(one)) == pytest.approx(1 - 1 / 20)
    assert gini(torch.stack([torch.zeros(4, 5), torch.full((4, 5), -2.5)])).tolist() == [0, 0]
    maps = random_maps(3) - 0.5
    values = maps.abs().flatten(1).double()
    pairs = (values[:, :, None] - values[:, None]).abs().mean((1, 2)) / (2 * values.mean(1))
    torch.testing.assert_close(gini(maps), pairs)
    torch.testing.assert_close(gini(maps * 1e-30), pairs, rtol=1e-6, atol=0)
    metric = Sparseness()
    metric.update(maps)
    torch.testing.assert_close(metric.compute(), pairs.mean())


# -- all of them ------------------------------------------------------------------------------------------------------

MEASURES = {
    "degradation": (lambda *a, **k: degradation(*a, tile=4, **k), 2 * 9),
    "degradation in fewer steps": (lambda *a, **k: degradation(*a, tile=4, steps=5, **k), 2 * 5),
    "sensitivity-n": (lambda *a, **k: sensitivity_n(*a, sizes=3, subsets=4, **k), 3 * 4 + 1),
    "infidelity": (lambda *a, **k: infidelity(*a, samples=7, **k), 7 + 1),
}


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("classes", [None, [1, 0, 2]])
def test_passes_are_as_many_as_stated_and_batches_change_nothing(name, classes):
    measure, stated = MEASURES[name]
    model, x, maps = smooth_classifier().train(), images(3).double(), random_maps(3)
    with counted_passes(model) as passes:
        together = measure(model, x, maps, classes, chunk=5)
    assert sum(passes) == 3 * stated
    assert max(passes) <= 5
    assert model.training
    one = measure(model, x[1:2], maps[1:2], classes and classes[1:2])
    torch.testing.assert_close(one, together[1:2], rtol=1e-9, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", MEASURES)
def test_one_logit_and_maps_that_are_not_finite(name):
    measure = MEASURES[name][0]
    x, maps = images(3).double(), random_maps(3)
    one = nn.Sequential(nn.Flatten(), nn.Linear(432, 1)).double()
    two = nn.Sequential(nn.Flatten(), nn.Linear(432, 2)).double()
    two[1].weight.data = torch.cat([torch.zeros_like(one[1].weight), one[1].weight.data])
    two[1].bias.data = torch.cat([torch.zeros(1), one[1].bias.data])
    found, expected = measure(one, x, maps, [1, 1, 1]), measure(two, x, maps, [1, 1, 1])
    torch.testing.assert_close(found, expected, equal_nan=True)
    maps[1, 2, 2] = torch.nan
    with pytest.raises(UserError, match="map 1 holds values that are not finite"):
        measure(two, x, maps)
    with pytest.raises(UserError, match="maps"):
        measure(two, x, random_maps(3, 6))


@pytest.mark.parametrize("metric", [Degradation(tile=4), SensitivityN(), Infidelity(), MaxSensitivity("gradient")])
def test_names_and_directions(metric):
    assert metric.higher_is_better is (not isinstance(metric, Infidelity | MaxSensitivity))
    model = relu_classifier()
    given = (images(2),) if isinstance(metric, MaxSensitivity) else (images(2), random_maps(2))
    metric.update(model, *given)
    assert metric.compute().dtype == torch.float64
    assert metric.plot()[0] is not None
