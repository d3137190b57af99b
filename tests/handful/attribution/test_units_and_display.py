"""Units keep sums; maps for the eye never hold NaN."""

import pytest
import torch

from handful.attribution import attribute, normalise
from handful.attribution.display import reduce_channels, resize
from handful.attribution.units import aggregate, grid, paint, shares, superpixels
from handful.errors import UserError
from tests.handful.attribution.nets import images, relu_classifier


def test_patches():
    assert grid((4, 5), 2).tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5], [3, 3, 4, 4, 5]]


@pytest.mark.parametrize("kind", ["grid", "slic", "instances"])
def test_sums_are_preserved(kind):
    x = images(3)
    maps = attribute(relu_classifier(), x, "top2", method="integrated_gradients", steps=4).map()
    if kind == "grid":
        units = grid((12, 12), 5).expand(3, 12, 12)
    elif kind == "slic":
        units = superpixels(x, 8)
    else:
        units = torch.rand(3, 4, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.3  # they overlap
    values = aggregate(maps, units)
    torch.testing.assert_close(values.sum(dim=2), maps.sum(dim=(2, 3)), rtol=1e-4, atol=1e-5)
    again = aggregate(paint(values, units), units)
    if kind != "instances":
        torch.testing.assert_close(again, values, rtol=1e-4, atol=1e-5)
        for row in range(3):
            for unit in range(int(units[row].max()) + 1):
                torch.testing.assert_close(
                    values[row, 0, unit], maps[row, 0][units[row] == unit].sum(), rtol=1e-4, atol=1e-5
                )
    torch.testing.assert_close(paint(values, units).sum(dim=(2, 3)), maps.sum(dim=(2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(aggregate(maps[:, 0], units), values[:, 0])


def test_overlapping_instances_share_and_the_rest_is_a_unit():
    masks = torch.tensor([[[[1, 1, 0]], [[0, 1, 0]]]], dtype=torch.bool)
    torch.testing.assert_close(shares(masks)[0, :, 0], torch.tensor([[1, 0.5, 0], [0, 0.5, 0], [0, 0, 1]]))
    assert aggregate(torch.tensor([[[2.0, 4.0, 8.0]]]), masks).tolist() == [[4, 2, 8]]


def test_superpixels_follow_colour_and_have_no_gaps():
    x = torch.zeros(1, 3, 16, 16)
    x[:, :, :, 9:] = 1
    labels = superpixels(x, 4)[0]
    assert labels.unique().tolist() == list(range(int(labels.max()) + 1))
    assert not set(labels[:, :9].unique().tolist()) & set(labels[:, 9:].unique().tolist())


def test_units_that_do_not_fit():
    with pytest.raises(UserError, match="whole numbers"):
        shares(torch.rand(1, 4, 4))
    with pytest.raises(UserError, match="do not fit"):
        aggregate(torch.rand(1, 4, 4), torch.zeros(1, 5, 5, dtype=torch.long))
    with pytest.raises(UserError, match="labels"):
        shares(torch.zeros(4, 4, dtype=torch.long))


@pytest.mark.parametrize("scaling", ["max", "minmax", "percentile", "symmetric"])
def test_constant_maps_become_zeros(scaling):
    maps = torch.stack([torch.zeros(5, 5), torch.full((5, 5), 3.0), torch.full((5, 5), -2.0)])
    assert normalise(maps, scaling).abs().max() == 0
    broken = torch.full((1, 5, 5), torch.nan)
    assert normalise(broken, scaling).abs().max() == 0


def test_scalings():
    maps = torch.tensor([[[-2.0, 0.0], [1.0, 4.0]]])
    assert normalise(maps, "max").flatten().tolist() == [0, 0, 0.25, 1]
    torch.testing.assert_close(normalise(maps, "minmax").flatten(), torch.tensor([0, 2 / 6, 0.5, 1]))
    assert normalise(maps, "symmetric").flatten().tolist() == [-0.5, 0, 0.25, 1]
    assert float(normalise(maps, "percentile").min()) == 0


def test_each_map_is_scaled_on_its_own():
    maps = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5, 9])[:, None, None]
    for scaling in ("max", "minmax", "percentile", "symmetric"):
        alone = torch.stack([normalise(one, scaling) for one in maps])
        torch.testing.assert_close(normalise(maps, scaling), alone)


def test_percentiles_cut_one_in_a_hundred_at_either_end():
    ramp = torch.arange(101.0).reshape(1, 1, 101)
    ramp[..., 0], ramp[..., -1] = -1000, 1000
    scaled = normalise(ramp, "percentile").flatten()
    torch.testing.assert_close(scaled, ((torch.arange(101.0) - 1) / 98).clamp(0, 1))


def test_a_resized_map_keeps_its_corners_where_cells_are():
    maps = torch.tensor([[[0.0, 1.0]]])
    assert resize(maps, (1, 4)).flatten().tolist() == [0, 0.25, 0.75, 1]
    assert resize(maps, (1, 2)) is maps


def test_channels_become_one_by_magnitude_or_sum():
    raw = torch.tensor([-3.0, 2.0, 0.5]).reshape(1, 3, 1, 1)
    assert float(reduce_channels(raw, "max_abs")) == 3
    assert float(reduce_channels(raw, "sum")) == -0.5
