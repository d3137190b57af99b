"""Gradient, input × gradient, SmoothGrad and integrated gradients against closed forms, differences and Captum."""

import captum.attr
import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.tensor_memory import peak_tensor_bytes
from handful.attribution import attribute
from handful.attribution.methods.averaged_gradients import quadrature
from handful.errors import UserError
from tests.handful.attribution.nets import images, linear_model, relu_classifier, smooth_classifier


def test_gradient_of_a_linear_model_is_its_weight():
    model, x = linear_model(), images(size=8, dtype=torch.float64)
    found = attribute(model, x, torch.tensor([2, 0, 1]), method="gradient")
    torch.testing.assert_close(found.raw, model[1].weight[[2, 0, 1]].reshape(3, 3, 8, 8), rtol=0, atol=0)
    torch.testing.assert_close(found.map(), found.raw.abs().amax(dim=1), rtol=0, atol=0)


def test_gradient_matches_central_differences():
    model, x = smooth_classifier(), images(1, dtype=torch.float64)
    raw = attribute(model, x, 2, method="gradient").raw
    step = 1e-4
    for place in [(0, 0, 0, 0), (0, 1, 5, 7), (0, 2, 11, 3)]:
        up, down = x.clone(), x.clone()
        up[place] += step
        down[place] -= step
        slope = float((model(up) - model(down))[0, 2].detach()) / (2 * step)
        assert float(raw[place]) == pytest.approx(slope, rel=1e-3)


def test_score_is_the_logit_so_the_map_scales_with_the_model():
    model, x = smooth_classifier(), images(2, dtype=torch.float64)
    once = attribute(model, x, 1, method="gradient").raw
    twice = attribute(nn.Sequential(model, _Times(2.0)), x, 1, method="gradient").raw
    torch.testing.assert_close(twice, 2 * once)


def test_smoothgrad_without_noise_is_the_gradient():
    model, x = relu_classifier(), images()
    plain = attribute(model, x, 1, method="gradient").raw
    smooth = attribute(model, x, 1, method="smoothgrad", level=0.0, samples=3).raw
    torch.testing.assert_close(smooth, plain, rtol=1e-5, atol=1e-7)


def test_smoothgrad_of_a_linear_model_is_its_gradient_whatever_the_noise():
    model, x = linear_model(), images(size=8, dtype=torch.float64)
    smooth = attribute(model, x, 0, method="smoothgrad", level=0.5, samples=4).raw
    torch.testing.assert_close(smooth, attribute(model, x, 0, method="gradient").raw)


def test_smoothgrad_is_a_mean_over_noise_of_the_images_own_range():
    x = images(2, dtype=torch.float64) * torch.tensor([0.1, 3.0]).reshape(2, 1, 1, 1)
    spread = []
    for seed in range(12):
        spread.append(attribute(_Square(), x, 1, method="smoothgrad", level=0.2, samples=1, seed=seed).raw)
    # the gradient of Σ x² is 2x, so the noise is half the gradient's deviation from 2x
    noise = (torch.stack(spread) - 2 * x) / 2
    span = x.amax(dim=(1, 2, 3)) - x.amin(dim=(1, 2, 3))
    torch.testing.assert_close(noise.std(dim=(0, 2, 3, 4)), 0.2 * span, rtol=0.05, atol=0)


def test_smoothgrads_samples_have_noise_of_their_own():
    x = images(3, size=24, dtype=torch.float64)
    span = x.amax(dim=(1, 2, 3)) - x.amin(dim=(1, 2, 3))
    noise = attribute(_Square(), x, 1, method="smoothgrad", level=0.2, samples=16).raw / 2 - x
    torch.testing.assert_close(noise.std(dim=(1, 2, 3)), 0.2 * span / 4, rtol=0.1, atol=0)  # √16
    assert torch.corrcoef(noise.flatten(1)).fill_diagonal_(0).abs().max() < 0.1


def test_integrated_gradients_of_a_linear_model_are_exact_with_any_number_of_steps():
    model, x = linear_model(), images(size=8, dtype=torch.float64)
    baseline = torch.full((3, 8, 8), 0.3, dtype=torch.float64)
    for steps in (1, 2, 7):
        for rule in ("gausslegendre", "midpoint"):
            found = attribute(
                model, x, 1, method="integrated_gradients", baseline=baseline, steps=steps, rule=rule, chunk=5
            )
            torch.testing.assert_close(found.raw, model[1].weight[1].reshape(3, 8, 8) * (x - baseline))


def test_integrated_gradients_are_complete_and_say_what_they_miss():
    model, x = smooth_classifier(), images(dtype=torch.float64)
    found = attribute(model, x, "top2", method="integrated_gradients", baseline="blur")
    from handful.attribution.baselines import make_baseline

    blurred, _ = make_baseline(x, "blur", None)
    with torch.no_grad():
        gain = (model(x) - model(blurred)).gather(1, found.targets)
    total = found.raw.sum(dim=(2, 3, 4))
    assert (total - gain).abs().max() < 1e-3
    torch.testing.assert_close(found.completeness, total - gain)
    rough = attribute(model, x, "top2", method="integrated_gradients", steps=1)
    assert rough.completeness.abs().max() > 1e-4


def test_integrated_gradients_change_sign_with_the_direction():
    model, x = smooth_classifier(), images(dtype=torch.float64)
    there = attribute(model, x[:1], 1, method="integrated_gradients", baseline=x[1:2]).raw
    back = attribute(model, x[1:2], 1, method="integrated_gradients", baseline=x[:1]).raw
    torch.testing.assert_close(there, -back)


def test_integrated_gradients_leave_unused_and_unchanged_pixels_at_zero():
    class LeftHalf(nn.Module):
        def forward(self, x):
            return torch.stack([x[..., :4].sum(dim=(1, 2, 3)).tanh(), x[..., 0].sum(dim=(1, 2))], dim=1)

    x = images(size=8, dtype=torch.float64)
    x[:, :, 0, 0] = 0
    raw = attribute(LeftHalf().double(), x, 0, method="integrated_gradients").raw
    assert raw[..., 4:].abs().max() == 0
    assert raw[:, :, 0, 0].abs().max() == 0
    assert raw[..., :4].abs().max() > 0


@pytest.mark.parametrize(("method", "option"), [("integrated_gradients", "steps"), ("smoothgrad", "samples")])
def test_more_steps_need_no_more_memory(method, option):
    model, x = relu_classifier(), images(4)

    def peak(count: int) -> int:
        return peak_tensor_bytes(lambda: attribute(model, x, 0, method=method, chunk=8, **{option: count}))

    peak(8)  # what is kept from the first call on
    few = peak(8)
    assert few > 8 * x[0].numel() * 4 * 2  # maps of eight copies, forward and backward
    assert peak(50) <= 1.02 * few  # a number a step


def test_integrated_gradients_do_not_depend_on_how_the_model_is_written():
    model, x = relu_classifier().double().eval(), images(dtype=torch.float64)
    unfolded = attribute(model, x, 0, method="integrated_gradients").raw
    layers = list(model.backbone)
    folded = nn.Sequential(
        fuse_conv_bn_eval(layers[0], layers[1]), layers[2], fuse_conv_bn_eval(layers[3], layers[4]), layers[5],
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.head,
    )  # fmt: skip
    torch.testing.assert_close(attribute(folded, x, 0, method="integrated_gradients").raw, unfolded)


def test_one_step_on_a_net_without_biases_is_input_times_gradient():
    model, x = relu_classifier(bias=False), images()
    one = attribute(model, x, 2, method="integrated_gradients", steps=1).raw
    torch.testing.assert_close(one, attribute(model, x, 2, method="input_x_gradient").raw)


@pytest.mark.parametrize("rule", ["gausslegendre", "midpoint"])
def test_quadrature_integrates_a_constant_and_a_line(rule):
    points, weights = quadrature(9, rule)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)
    assert float((weights * points).sum()) == pytest.approx(0.5, abs=1e-12)
    with pytest.raises(UserError, match="trapezoid"):
        quadrature(9, "trapezoid")


def test_captum_agrees_where_captum_is_right():
    model, x = relu_classifier().eval(), images()
    target = torch.tensor([0, 3, 1])
    mine = attribute(model, x, target, method="gradient").raw
    torch.testing.assert_close(mine, captum.attr.Saliency(model).attribute(x, target, abs=False))
    mine = attribute(model, x, target, method="input_x_gradient").raw
    torch.testing.assert_close(mine, captum.attr.InputXGradient(model).attribute(x, target))
    mine = attribute(model, x, target, method="integrated_gradients", steps=20).raw
    other = captum.attr.IntegratedGradients(model).attribute(x, torch.zeros_like(x), target, n_steps=20)
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


class _Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, x):
        return self.factor * x


class _Square(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return (self.one * x**2).sum(dim=(1, 2, 3))[:, None]
