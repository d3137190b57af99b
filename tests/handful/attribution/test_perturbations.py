"""Occlusion, LIME and meaningful perturbation against additive models, naive loops, Captum and scikit-learn."""

import captum.attr
import numpy
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn import functional

from handful.attribution import attribute
from handful.attribution.baselines import make_baseline
from handful.attribution.methods.lime import _fit
from handful.attribution.methods.perturbation import total_variation
from handful.attribution.units import grid
from handful.blur import gaussian_blur
from handful.errors import UserError
from handful.metrics.localisation import energy_in_mask
from tests.handful.attribution.nets import images, linear_model, relu_classifier


def test_occlusion_of_a_linear_model_is_the_sum_over_each_window():
    model, x = linear_model(), images(2, size=8, dtype=torch.float64)
    found = attribute(model, x, 1, method="occlusion", window=3, stride=2).raw
    weight = model[1].weight[1].reshape(3, 8, 8).detach()
    expected, covered = torch.zeros(2, 8, 8, dtype=torch.float64), torch.zeros(8, 8)
    for top in (0, 2, 4, 5):
        for left in (0, 2, 4, 5):
            area = (slice(top, top + 3), slice(left, left + 3))
            part = (weight * x)[(slice(None), slice(None), *area)].sum(dim=(1, 2, 3))
            expected[(slice(None), *area)] += part[:, None, None]
            covered[area] += 1
    torch.testing.assert_close(found, expected / covered)


def test_hiding_everything_costs_the_whole_difference():
    model, x = relu_classifier().eval(), images()
    raw = attribute(model, x, 2, method="occlusion", window=12).raw
    drop = (model(x) - model(torch.zeros_like(x)))[:, 2].detach()
    torch.testing.assert_close(raw, drop[:, None, None].expand(3, 12, 12), rtol=1e-4, atol=1e-5)


def test_occlusion_agrees_with_captum():
    model, x = relu_classifier().eval(), images()
    mine = attribute(model, x, 1, method="occlusion", window=4, stride=4).raw
    other = captum.attr.Occlusion(model).attribute(x, (3, 4, 4), strides=(3, 4, 4), target=1)
    torch.testing.assert_close(mine, other[:, 0], rtol=1e-4, atol=1e-5)


def test_occlusion_takes_one_forward_pass_a_window_and_one_more():
    model, x = relu_classifier(), images(2)
    seen = 0

    def count(_module, args):
        nonlocal seen
        seen += len(args[0])

    model.backbone[0].register_forward_pre_hook(count)
    attribute(model, x, method="occlusion", window=4, stride=2)
    assert seen == 2 * (25 + 1)
    with pytest.raises(UserError, match="window of 1 to 12"):
        attribute(model, x, method="occlusion", window=13)


def test_lime_recovers_a_model_that_is_additive_in_its_superpixels():
    model, x = linear_model(), images(2, size=8, dtype=torch.float64)
    segments = grid((8, 8), 4)
    hide = torch.zeros(3, 8, 8, dtype=torch.float64)
    found = attribute(
        model, x, "top2", method="lime", segments=segments, samples=64, ridge=1e-9, baseline=hide, chunk=10
    )
    for row in range(2):
        for column in range(2):
            weight = model[1].weight[found.targets[row, column]].reshape(3, 8, 8).detach()
            for unit in range(4):
                inside = segments == unit
                expected = (weight * x[row]).sum(0)[inside].sum()
                torch.testing.assert_close(
                    found.raw[row, column][inside], expected.expand(int(inside.sum())), rtol=1e-3, atol=1e-5
                )
    torch.testing.assert_close(found.notes["r2"], torch.ones(2, 2, dtype=torch.float64), rtol=1e-6, atol=0)


def test_limes_fit_is_a_weighted_ridge():
    generator = torch.Generator().manual_seed(0)
    kept = (torch.rand(60, 7, generator=generator) < 0.5).double()
    scores = torch.randn(2, 60, generator=generator, dtype=torch.float64)
    coefficients, r2 = _fit(kept, scores, 1.0)
    ones = numpy.ones(7)
    weights = []
    for row in kept.numpy():
        norm = numpy.linalg.norm(row) * numpy.linalg.norm(ones)
        distance = 1 - (row @ ones / norm if norm else 0.0)
        weights.append(numpy.sqrt(numpy.exp(-(distance**2) / 0.25**2)))
    for target in range(2):
        reference = Ridge(alpha=1.0).fit(kept, scores[target], sample_weight=weights)
        numpy.testing.assert_allclose(coefficients[target], reference.coef_, rtol=1e-8)
        assert float(r2[target]) == pytest.approx(reference.score(kept, scores[target], sample_weight=weights))


def test_lime_paints_superpixels_and_says_how_well_it_fits():
    model, x = relu_classifier(), images(2)
    found = attribute(model, x, method="lime", samples=40, n_segments=9)
    assert found.notes["r2"].shape == (2,)
    assert 1 < len(found.raw[0].unique()) <= 20
    with pytest.raises(UserError, match=r"more samples \(4\) than superpixels \(9\)"):
        attribute(model, x, method="lime", segments=grid((12, 12), 4), samples=4)
    with pytest.raises(UserError, match='segments "voronoi" is unknown'):
        attribute(model, x, method="lime", segments="voronoi")
    with pytest.raises(UserError, match="int labels"):
        attribute(model, x, method="lime", segments=torch.zeros(3, 3, dtype=torch.long))


class Glyph(nn.Module):
    """Says class 1 where a bright square is at any place, class 0 where there is none."""

    def __init__(self):
        super().__init__()
        self.look = nn.Conv2d(3, 1, 6, bias=False)
        nn.init.constant_(self.look.weight, 1 / 108)

    def forward(self, x):
        seen = self.look(x).flatten(1).amax(1)
        return torch.stack([torch.zeros_like(seen), 14 * (seen - 0.5)], dim=1)


def planted():
    x = 0.05 * torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(3, 32, 32, dtype=torch.bool)
    for row, (top, left) in enumerate([(4, 5), (16, 20), (20, 6)]):
        masks[row, top : top + 6, left : left + 6] = True
        x[row, :, top : top + 6, left : left + 6] += 1
    return x, masks


@pytest.mark.parametrize("objective", ["lower", "switch"])
def test_meaningful_perturbation_removes_what_was_planted(objective):
    x, masks = planted()
    found = attribute(Glyph(), x, method="meaningful_perturbation", iterations=80, objective=objective, baseline="mean")
    assert found.targets.tolist() == [1, 1, 1]
    assert float(found.raw.min()) >= 0
    assert float(found.raw.max()) <= 1
    assert found.notes["before"].min() > 0.99
    assert found.notes["after"].max() < 0.52
    maps = found.map()
    assert maps.mean() < 0.3
    assert energy_in_mask(maps, masks).min() > 3 * masks.float().mean()
    assert (maps * masks).sum() / masks.sum() > 0.8


def test_meaningful_perturbation_at_its_limits():
    x, _ = planted()
    costly = attribute(Glyph(), x, method="meaningful_perturbation", iterations=30, area_weight=1e6)
    assert costly.raw.abs().max() == 0
    even = attribute(
        Glyph(), torch.ones(1, 3, 32, 32), method="meaningful_perturbation", iterations=10, area_weight=0.0
    )
    assert even.raw.abs().max() < 1e-5 or even.notes["after"] == pytest.approx(even.notes["before"])
    free = attribute(
        Glyph(), x, method="meaningful_perturbation", iterations=30, area_weight=0.0, smooth_weight=0.0, jitter=0
    )
    assert (free.notes["after"] <= free.notes["before"]).all()
    with pytest.raises(UserError, match="lower or switch"):
        attribute(Glyph(), x, method="meaningful_perturbation", objective="raise")


def test_total_variation_against_a_loop():
    masks = torch.rand(2, 1, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for row, mask in enumerate(masks[:, 0]):
        total = 0.0
        for i in range(5):
            for j in range(4):
                down = mask[i + 1, j] - mask[i, j] if i < 4 else 0.0
                right = mask[i, j + 1] - mask[i, j] if j < 3 else 0.0
                total += float(down**2 + right**2) ** 1.5
        assert float(total_variation(masks, 3.0)[row]) == pytest.approx(total)
    flat = torch.ones(1, 1, 3, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(total_variation(flat, 3.0).sum(), flat)
    assert slope.abs().max() == 0


def test_blur_keeps_sums_of_a_centred_spot_and_constants():
    spot = torch.zeros(1, 2, 21, 17, dtype=torch.float64)
    spot[:, :, 10, 8] = 1
    blurred = gaussian_blur(spot, 1.5)
    torch.testing.assert_close(blurred.sum(dim=(2, 3)), torch.ones(1, 2, dtype=torch.float64))
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    bell = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    torch.testing.assert_close(blurred[0, 0, 5:16, 8] / blurred[0, 0, 10, 8], bell)
    even = torch.full((1, 1, 4, 4), 2.5)
    torch.testing.assert_close(gaussian_blur(even, 3.0), even)


def test_the_blur_of_what_is_removed_grows_with_the_shorter_side():
    tall = torch.randn(2, 3, 112, 60, generator=torch.Generator().manual_seed(0))
    blurred, name = make_baseline(tall, "blur", None)
    assert name == "blur"
    torch.testing.assert_close(blurred, gaussian_blur(tall, 60 * 10 / 224))
    padded = functional.pad(tall, (30, 30, 30, 30), mode="reflect")  # edges are mirrored, not black
    torch.testing.assert_close(blurred, gaussian_blur(padded, 60 * 10 / 224)[..., 30:-30, 30:-30], rtol=0, atol=1e-5)


def test_limes_samples_of_an_image_do_not_depend_on_how_many_superpixels_others_have():
    model, x = linear_model(), images(2, size=8, dtype=torch.float64)
    segments = torch.stack([grid((8, 8), 4), grid((8, 8), 2)])  # 4 and 16
    together = attribute(model, x, 1, method="lime", segments=segments, samples=40)
    for row in range(2):
        alone = attribute(model, x[row : row + 1], 1, method="lime", segments=segments[row : row + 1], samples=40)
        torch.testing.assert_close(together.raw[row], alone.raw[0], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(together.notes["r2"][row], alone.notes["r2"][0], rtol=1e-6, atol=1e-9)
