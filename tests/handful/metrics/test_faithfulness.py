"""Insertion and deletion against naive loops and models whose curves are known."""

import numpy
import pytest
import torch
from torch import nn

from handful.blur import gaussian_blur
from handful.errors import UserError
from handful.metrics.faithfulness import DeletionAUC, InsertionAUC, area_under, perturbation_curve
from tests.handful.attribution.nets import images, relu_classifier
from tests.handful.metrics.passes import additive, counted_passes


@pytest.mark.parametrize("mode", ["insertion", "deletion"])
def test_curves_match_a_loop_over_pixels(mode):
    model, x = relu_classifier().eval(), images(2, size=6)
    maps = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0))
    curve = perturbation_curve(model.train(), x, maps, mode=mode, steps=9, chunk=4)
    assert model.training
    model.eval()
    for row in range(2):
        label = int(model(x[row : row + 1]).argmax())
        order = numpy.argsort(-maps[row].flatten().numpy(), kind="stable")
        start = x[row] if mode == "deletion" else gaussian_blur(x, 5 / 224 * 6)[row]
        end = torch.zeros_like(x[row]) if mode == "deletion" else x[row]
        for step in range(10):
            now = start.clone()
            for pixel in order[: 4 * step]:
                now[:, pixel // 6, pixel % 6] = end[:, pixel // 6, pixel % 6]
            expected = model(now[None]).softmax(1)[0, label]
            torch.testing.assert_close(curve[row, step], expected.detach())


def test_the_area_is_the_trapezoids():
    curve = torch.rand(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    numpy.testing.assert_allclose(area_under(curve), numpy.trapezoid(curve.numpy(), dx=1 / 7, axis=1))


def test_a_constant_model_and_a_monotone_change_of_the_map():
    class Even(nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), 4) + 0 * x.sum()

    x, maps = images(2), torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(area_under(perturbation_curve(Even(), x, maps)), torch.full((2,), 0.25).double())
    model = relu_classifier()
    torch.testing.assert_close(
        perturbation_curve(model, x, maps), perturbation_curve(model, x, (maps * 3).exp()), rtol=0, atol=0
    )


def test_a_perfect_map_of_an_additive_model_beats_any_other():
    class Sum(nn.Module):
        def forward(self, x):
            total = x.sum(dim=(1, 2, 3))
            return torch.stack([total, torch.zeros_like(total)], dim=1)

    x = images(1).abs()
    perfect, other = x.sum(dim=1), torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(1))
    best, worse = DeletionAUC(12), DeletionAUC(12)
    best.update(Sum(), 0.05 * x, perfect)
    worse.update(Sum(), 0.05 * x, other)
    assert best.compute() < worse.compute()


def test_metrics_are_means_over_images():
    model, x = relu_classifier(), images(3)
    maps = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))
    for metric, mode in ((InsertionAUC(6), "insertion"), (DeletionAUC(6), "deletion")):
        metric.update(model, x[:1], maps[:1], torch.tensor([2]))
        metric.update(model, x[1:], maps[1:], torch.tensor([2, 2]))
        expected = area_under(perturbation_curve(model, x, maps, torch.tensor([2, 2, 2]), mode, 6)).mean()
        torch.testing.assert_close(metric.compute(), expected, rtol=1e-6, atol=1e-8)


def test_bad_requests():
    model, x = relu_classifier(), images(2)
    with pytest.raises(UserError, match="mode"):
        perturbation_curve(model, x, x[:, 0], mode="ablation")
    with pytest.raises(UserError, match="maps: expected"):
        perturbation_curve(model, x, x)
    with pytest.raises(UserError, match="steps"):
        perturbation_curve(model, x, x[:, 0], steps=145)


@pytest.mark.parametrize("mode", ["insertion", "deletion"])
@pytest.mark.parametrize("classes", [None, torch.tensor([1, 0, 2])])
def test_passes_are_as_many_as_stated(mode, classes):
    """One of each clean image, which is an end of the curve as well, and one for each step."""
    model, x = relu_classifier(), images(3)
    with counted_passes(model) as passes:
        perturbation_curve(model, x, x[:, 0], classes, mode, steps=5, chunk=4)
    assert sum(passes) == 3 * (5 + 1)
    assert max(passes) <= 4


def test_readings_of_the_curve():
    model, x = relu_classifier().eval(), images(2)
    logits = model(x).detach()
    first = {r: perturbation_curve(model, x, x[:, 0], steps=3, reading=r)[:, 0] for r in ("score", "decision")}
    torch.testing.assert_close(first["score"], logits.amax(1))
    assert first["decision"].tolist() == [1, 1]
    one = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 1))
    z = one(x).detach()[:, 0]
    found = perturbation_curve(one, x, x[:, 0], [0, 1], steps=3, reading="score")[:, 0]
    torch.testing.assert_close(found, torch.stack([-z[0], z[1]]))


@pytest.mark.parametrize(("chunk", "sizes"), [(3, [3, 3, 3, 1, 3, 3, 1, 3, 3, 1]), (5, [3, 4, 3, 4, 3, 4, 3]),
                                              (100, [3, 21])])  # fmt: skip
def test_a_batch_holds_one_image_where_its_copies_fill_it(chunk, sizes):
    model, x = additive(12), images(3).double()
    maps = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0)).double()
    whole = perturbation_curve(model, x, maps, 1, steps=7)
    with counted_passes(model) as passes:
        found = perturbation_curve(model, x, maps, 1, steps=7, chunk=chunk)
    torch.testing.assert_close(found, whole)
    assert list(passes) == sizes
