"""Units keep sums; maps for the eye never hold NaN."""

import pytest
import torch

from handful.attribution import attribute, normalise
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
