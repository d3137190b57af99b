"""ROAD: the imputation against a dense solution, the curve against a loop, known points."""

import numpy
import pytest
import torch

from handful.errors import UserError
from handful.metrics.imputation import impute, solve_by_gradients
from handful.metrics.road import ROAD, road_curve
from tests.handful.attribution.nets import images, smooth_classifier
from tests.handful.metrics.passes import additive, counted_passes


def masks(count, height, width, share, seed=0):
    return torch.rand(count, height, width, generator=torch.Generator().manual_seed(seed)) < share


def dense_solution(image, missing):
    """One channel; every missing pixel times the weights of its neighbours equals their weighted sum."""
    places = [tuple(p) for p in missing.nonzero().tolist()]
    matrix, right = numpy.zeros((len(places), len(places))), numpy.zeros(len(places))
    for row, (y, x) in enumerate(places):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                there = (y + dy, x + dx)
                if (dy, dx) == (0, 0) or not (0 <= there[0] < image.shape[0] and 0 <= there[1] < image.shape[1]):
                    continue
                weight = 1 / 12 if dy and dx else 1 / 6
                matrix[row, row] += weight
                if there in places:
                    matrix[row, places.index(there)] -= weight
                else:
                    right[row] += weight * float(image[there])
    found = image.clone()
    found[missing] = torch.from_numpy(numpy.linalg.solve(matrix, right))
    return found


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_imputation_solves_the_system(share):
    x, missing = images(3, size=9, dtype=torch.float64)[..., :7], masks(3, 9, 7, share)
    found = impute(x, missing)
    for row in range(3):
        for channel in range(3):
            torch.testing.assert_close(found[row, channel], dense_solution(x[row, channel], missing[row]))
    torch.testing.assert_close(
        solve_by_gradients(x.masked_fill(missing[:, None], 0), missing), found, atol=1e-5, rtol=0
    )


def test_an_imputation_that_has_not_converged_says_so():
    with pytest.warns(UserWarning, match="not converged after 1 steps"):
        solve_by_gradients(images(2, size=9), masks(2, 9, 9, 0.5), steps=1)


def test_imputation_of_nothing_of_everything_and_of_constants():
    x = images(2, size=6)
    none, every = torch.zeros(2, 6, 6, dtype=torch.bool), torch.ones(2, 6, 6, dtype=torch.bool)
    assert torch.equal(impute(x, none), x)
    assert impute(x, every).abs().max() == 0
    torch.testing.assert_close(
        impute(torch.full((2, 3, 6, 6), 2.5), masks(2, 6, 6, 0.7)), torch.full((2, 3, 6, 6), 2.5)
    )
    assert torch.equal(solve_by_gradients(x, none), x)
    assert impute(x.half(), masks(2, 6, 6, 0.7)).dtype == torch.float16


def test_the_curve_is_that_of_a_loop():
    model, x = smooth_classifier(), images(2).double()
    maps = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(1))
    for order, sign in (("most", -1), ("least", 1)):
        found = road_curve(model, x, maps, [1, 3], order, (10, 55), noise=0)
        for row, label in enumerate((1, 3)):
            ordered = numpy.argsort(sign * maps[row].flatten().numpy(), kind="stable")
            for step, count in enumerate((14, 79)):
                missing = torch.zeros(144, dtype=torch.bool)
                missing[ordered[:count].copy()] = True
                changed = torch.stack([dense_solution(c, missing.reshape(12, 12)) for c in x[row]])
                with torch.no_grad():
                    expected = model(changed[None]).softmax(1)[0, label]
                torch.testing.assert_close(found[row, step], expected)


def test_noise_is_that_of_the_image_and_passes_are_as_stated():
    model, x = smooth_classifier().train(), images(3).double()
    maps = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(1))
    with counted_passes(model) as passes:
        found = road_curve(model, x, maps, percentages=(20, 50, 80), chunk=4)
    assert sum(passes) == 3 * (3 + 1)
    torch.testing.assert_close(road_curve(model, x[1:2], maps[1:2], percentages=(20, 50, 80)), found[1:2])
    assert not torch.equal(road_curve(model, x, maps, percentages=(20, 50, 80), seed=1), found)
    metric = ROAD()
    with counted_passes(model) as passes:
        metric.update(model, x, maps)
    assert sum(passes) == 3 * 2 * (9 + 1)


def test_contributions_fare_better_than_anything_else_and_a_constant_map_says_little():
    model, x = additive(8), images(6, size=8).double()
    x = x * model(x)[:, 1].sign().reshape(-1, 1, 1, 1).detach()
    values = {}
    for name, maps in (
        ("true", model.contributions(x)), ("opposite", -model.contributions(x)),
        ("random", torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(0))),
    ):  # fmt: skip
        metric = ROAD()
        metric.update(model, x, maps, [1] * 6)
        values[name] = float(metric.compute())
    assert values["true"] > 0.2
    assert values["opposite"] < -0.2
    assert abs(values["random"]) < 0.1


def test_bad_requests():
    model, x, maps = smooth_classifier(), images(2).double(), torch.rand(2, 12, 12)
    with pytest.raises(UserError, match="percentages"):
        road_curve(model, x, maps, percentages=(0.0,))
    with pytest.raises(UserError, match="order"):
        road_curve(model, x, maps, order="best")
    with pytest.raises(UserError, match="finite"):
        road_curve(model, x, maps / 0)
