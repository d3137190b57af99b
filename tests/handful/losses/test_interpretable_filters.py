"""The interpretable-filter loss against loops, its gradient, and what it makes of maps."""

import math

import pytest
import torch

from handful.errors import UserError
from handful.losses import interpretable_filter_loss


def by_the_book(maps):
    """Equations 1 to 4 for one filter, maps `(B, n, n)`."""
    images, n, _ = maps.shape
    tau = 0.5 / n**2
    alpha = n**2 / (1 + n**2)
    templates, prior = [], []
    for my in range(n):
        for mx in range(n):
            rows = [[tau * max(1 - 4 * (abs(y - my) + abs(x - mx)) / n, -1) for x in range(n)] for y in range(n)]
            templates.append(torch.tensor(rows, dtype=torch.float64))
            prior.append(alpha / n**2)
    templates.append(torch.full((n, n), -tau, dtype=torch.float64))
    prior.append(1 - alpha)
    given = []
    for template in templates:
        weights = [math.exp(float((maps[i] * template).sum())) for i in range(images)]
        given.append([weight / sum(weights) for weight in weights])
    alone = [sum(p * row[i] for p, row in zip(prior, given, strict=True)) for i in range(images)]
    return -sum(
        p * row[i] * math.log(row[i] / alone[i]) for p, row in zip(prior, given, strict=True) for i in range(images)
    )


def test_against_loops():
    g = torch.Generator().manual_seed(0)
    maps = torch.rand(5, 3, 4, 4, generator=g, dtype=torch.float64) * 30
    expected = sum(by_the_book(maps[:, f]) for f in range(3)) / 3
    assert float(interpretable_filter_loss(maps)) == pytest.approx(expected, rel=1e-9)


def test_its_gradient_is_that_of_its_values():
    maps = torch.rand(3, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(interpretable_filter_loss, (maps,))


def test_maps_become_maps_of_one_peak():
    torch.manual_seed(0)
    raw = torch.rand(16, 1, 5, 5, requires_grad=True)
    optimizer = torch.optim.Adam([raw], 0.3)

    def share_of_the_peak():
        maps = raw.detach().relu().flatten(1)
        near = maps.amax(dim=1) / maps.sum(dim=1).clamp(min=1e-9)
        return float(near.mean())

    before, first = share_of_the_peak(), float(interpretable_filter_loss(raw.relu()))
    for _ in range(150):
        optimizer.zero_grad()
        loss = interpretable_filter_loss(raw.relu())
        loss.backward()
        optimizer.step()
    assert float(loss) < first - 0.1
    assert share_of_the_peak() > 1.5 * before


def test_a_scale_is_that_of_templates_on_maps_of_unit_size():
    maps = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
    usual = maps.amax(dim=(2, 3)).mean(dim=0)[:, None, None]
    scaled = float(interpretable_filter_loss(maps, 0.5))
    assert scaled == pytest.approx(float(interpretable_filter_loss(maps / usual * 16)))  # 0.5 over 0.5 / 16
    assert scaled == pytest.approx(float(interpretable_filter_loss(1000 * maps, 0.5)))  # larger maps gain nothing
    grads = []
    for scale in (None, 0.5):
        given = maps.clone().requires_grad_()
        interpretable_filter_loss(given, scale).backward()
        grads.append(float(given.grad.norm()))
    assert grads[1] > 50 * grads[0]  # the published templates hardly move maps of unit size
    assert float(interpretable_filter_loss(torch.zeros(2, 1, 3, 3), 0.5)) == pytest.approx(0, abs=1e-6)
    with pytest.raises(UserError, match="scale: 0 lies outside"):
        interpretable_filter_loss(maps, 0)


def test_equal_maps_hold_no_information():
    assert float(interpretable_filter_loss(torch.ones(6, 3, 4, 4))) == pytest.approx(0, abs=1e-6)
    assert float(interpretable_filter_loss(torch.rand(1, 3, 4, 4))) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(interpretable_filter_loss(torch.zeros(2, 1, 1, 1)))
    with pytest.raises(UserError, match="maps: expected shape"):
        interpretable_filter_loss(torch.ones(3, 4, 4))
