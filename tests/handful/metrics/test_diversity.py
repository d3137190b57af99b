"""diversity@k and dependence against loops, known cases, and two processes."""

import pytest
import torch

from handful.metrics import Dependence, DiversityAtK, Mean, ScaleInvariantDiversity
from handful.metrics.diversity import strongest_maps
from tests.helpers.two_processes import every_second, on_two_processes


def written_out(maps, logits, weight, k):
    values = []
    for b in range(maps.shape[0]):
        row = weight[int(logits[b].argmax())]
        if int((row != 0).sum()) < k:
            continue
        chosen = sorted(range(len(row)), key=lambda j: -float(row[j]))[:k]
        shares = torch.stack([torch.softmax(maps[b, j].flatten(), 0) for j in chosen])
        values.append(float(shares.max(dim=0).values.sum()) / k)
    return sum(values) / len(values) if values else float("nan")


def data(n=11):
    g = torch.Generator().manual_seed(4)
    weight = torch.randn(6, 8, generator=g)
    weight[1, 3:] = 0  # a class of three weights
    return torch.rand(n, 8, 5, 5, generator=g) * 9, torch.randn(n, 6, generator=g), weight


def test_against_loops():
    maps, logits, weight = data()
    metric = DiversityAtK(5)
    for part in range(0, len(maps), 4):
        metric.update(maps[part : part + 4], logits[part : part + 4], weight)
    for k in range(1, 6):
        expected = written_out(maps, logits, weight, k)
        assert float(metric.compute()[f"diversity@{k}"]) == pytest.approx(expected, rel=1e-6)


def test_maps_that_are_chosen_once_for_several_metrics_give_the_same_digits():
    maps, logits, weight = data()
    logits[2, 1] = weight[3, 2] = torch.nan
    for kind in (DiversityAtK, ScaleInvariantDiversity):
        for rows in (slice(None), slice(0, 1), slice(0, 0)):
            alone, shared = kind(3), kind(3)
            alone.update(maps[rows], logits[rows], weight)
            shared.update(strongest_maps(maps[rows], logits[rows], weight, 5))
            assert torch.equal(alone.total.nan_to_num(-1), shared.total.nan_to_num(-1))
            assert torch.equal(alone.count, shared.count)


def test_bounds():
    weight, logits = torch.ones(1, 5), torch.zeros(1, 1)
    flat, apart = torch.zeros(1, 5, 4, 4), torch.zeros(1, 5, 4, 4)
    for j in range(5):
        apart[0, j, j // 4, j % 4] = 100.0
    for maps, expected in ((flat, 1 / 5), (apart, 1.0)):
        metric = DiversityAtK(5)
        metric.update(maps, logits, weight)
        assert float(metric.compute()["diversity@5"]) == pytest.approx(expected)


def test_negative_weights_are_never_the_largest():
    weight = torch.tensor([[-5.0, 1.0, 2.0]])
    maps = torch.rand(1, 3, 4, 4)
    metric = DiversityAtK(2)
    metric.update(maps, torch.zeros(1, 1), weight)
    assert float(metric.compute()["diversity@2"]) == pytest.approx(
        written_out(maps[:, 1:], torch.zeros(1, 1), weight[:, 1:], 2), rel=1e-6
    )


def test_too_few_weights_give_no_number():
    metric = DiversityAtK(5)
    metric.update(torch.rand(2, 3, 4, 4), torch.zeros(2, 1), torch.ones(1, 3))
    values = metric.compute()
    assert torch.isfinite(values["diversity@3"])
    assert torch.isnan(values["diversity@4"])


def test_dependence():
    metric = Dependence()
    weight = torch.tensor([[1.0, -3.0, 0.0], [0.0, 0.0, 1.0]])
    features = torch.tensor([[2.0, 1.0, 9.0], [1.0, 1.0, 4.0], [5.0, 5.0, 0.0]])
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    metric.update(features, logits, weight)
    # 3 / (2 + 3); all on one feature; no contribution at all, so not counted
    assert float(metric.compute()) == pytest.approx((3 / 5 + 1.0) / 2)


def _of_rank(rank):
    maps, logits, weight = data()
    metric, mean, dependence = DiversityAtK(5), Mean(), Dependence()
    own = every_second(rank)
    metric.update(maps[own], logits[own], weight)
    mean.update(logits[own])
    dependence.update(maps.mean(dim=(2, 3))[own], logits[own], weight)
    averages = [float(mean.compute()), float(dependence.compute())]
    return [float(v) for v in metric.compute().values()], averages


def test_two_processes_give_the_same_numbers():
    results = on_two_processes(_of_rank)
    maps, logits, weight = data()
    metric, mean, dependence = DiversityAtK(5), Mean(), Dependence()
    metric.update(maps, logits, weight)
    mean.update(logits)
    dependence.update(maps.mean(dim=(2, 3)), logits, weight)
    for values, averages in results:
        assert values == pytest.approx([float(v) for v in metric.compute().values()], rel=1e-14)
        assert averages == pytest.approx([float(mean.compute()), float(dependence.compute())], rel=1e-14)
