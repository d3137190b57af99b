"""Localisation against cases that can be counted by hand."""

import pytest
import torch

from handful.errors import UserError
from handful.metrics.localisation import (
    AreaAboveHalf,
    EnergyInMask,
    PointingGame,
    area_above_half,
    energy_in_mask,
    pointing_hits,
)


def test_energy_counts_positive_mass_inside():
    maps = torch.tensor([[[3.0, 1.0], [-5.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    masks = torch.tensor([[[True, False], [True, False]]] * 3)
    assert energy_in_mask(maps, masks).tolist() == [0.75, 0, 0]


@pytest.mark.parametrize("size", [1e308, 1e-320, 3e38, 1.0])
def test_energy_of_maps_of_any_magnitude(size):
    """Sums neither overflow, which would count as an empty mask, nor vanish."""
    maps = torch.tensor([[[3.0, 1.0], [0.0, 0.0]]], dtype=torch.float64) / 3 * size
    masks = torch.tensor([[[True, False], [False, False]]])
    assert energy_in_mask(maps, masks).item() == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize("tolerance", [-1, 1.5, True, None, "1"])
def test_a_tolerance_that_is_no_number_of_pixels(tolerance):
    with pytest.raises(UserError, match="tolerance: expected"):
        PointingGame(tolerance)
    with pytest.raises(UserError, match="tolerance: expected"):
        pointing_hits(torch.rand(1, 3, 3), torch.ones(1, 3, 3, dtype=torch.bool), tolerance)


def test_pointing_with_and_without_tolerance():
    maps = torch.zeros(3, 9, 9)
    maps[0, 2, 2] = maps[1, 2, 5] = 1
    masks = torch.zeros(3, 9, 9, dtype=torch.bool)
    masks[:, 2, 2] = True
    assert pointing_hits(maps, masks).tolist() == [True, False, False]
    assert pointing_hits(maps, masks, 2).tolist() == [True, False, False]
    assert pointing_hits(maps, masks, 3).tolist() == [True, True, False]  # a constant map never hits


def test_area_above_half():
    maps = torch.tensor([[[4.0, 2.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[-1.0, -2.0], [-1.0, -2.0]]])
    assert area_above_half(maps).tolist() == [0.5, 1, 1]


def test_metrics_average_over_batches_of_any_size():
    generator = torch.Generator().manual_seed(0)
    maps, masks = torch.rand(7, 6, 6, generator=generator), torch.rand(7, 6, 6, generator=generator) < 0.3
    energy, pointing, area = EnergyInMask(), PointingGame(1), AreaAboveHalf()
    for part in (slice(0, 2), slice(2, 7)):
        energy.update(maps[part], masks[part])
        pointing.update(maps[part], masks[part])
        area.update(maps[part])
    assert float(energy.compute()) == pytest.approx(float(energy_in_mask(maps, masks).mean()))
    assert float(pointing.compute()) == pytest.approx(float(pointing_hits(maps, masks, 1).double().mean()))
    assert float(area.compute()) == pytest.approx(float(area_above_half(maps).mean()))


def test_shapes_that_do_not_fit():
    with pytest.raises(UserError, match=r"\(N, H, W\)"):
        energy_in_mask(torch.rand(2, 3, 3), torch.ones(2, 3, 4, dtype=torch.bool))
