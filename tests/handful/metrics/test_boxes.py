"""Boxes: their masks, and the top pixels of maps inside them."""

import pytest
import torch

from handful.errors import UserError
from handful.metrics.boxes import BoxRatio, box_masks, box_ratio
from handful.metrics.localisation import energy_in_mask


def test_masks_of_boxes():
    masks = box_masks(torch.tensor([[1, 1, 3, 2], [-5, -5, 2, 1], [0, 0, 99, 99], [2, 2, 2, 3]]), (3, 4))
    assert masks.sum((1, 2)).tolist() == [2, 2, 12, 0]
    assert masks[0, 1, 1:3].all()
    with pytest.raises(UserError, match="boxes"):
        box_masks([[1.0, 2.0, 3.0]], (3, 4))
    with pytest.raises(UserError, match="boxes"):
        box_masks([[0, 0, 1, float("nan")]], (3, 4))


def test_a_map_that_is_the_mask_is_all_inside():
    masks = box_masks([[1, 1, 3, 2], [0, 0, 2, 2]], (4, 4))
    for maps in (masks.float(), 5 * masks.double() + torch.rand(2, 4, 4, dtype=torch.float64)):
        assert box_ratio(maps, masks).tolist() == [1, 1]
    assert energy_in_mask(masks.float(), masks).tolist() == [1, 1]
    assert box_ratio(-masks.float(), masks).tolist() == [0, 0]


def test_top_pixels_are_counted_and_equal_ones_in_proportion():
    generator = torch.Generator().manual_seed(0)
    maps, masks = torch.rand(5, 6, 7, generator=generator), torch.rand(5, 6, 7, generator=generator) < 0.3
    for row in range(5):
        top = maps[row].flatten().topk(int(masks[row].sum())).indices
        assert float(box_ratio(maps, masks)[row]) == pytest.approx(float(masks[row].flatten()[top].double().mean()))
    for constant in (0.0, -2.0):
        found = box_ratio(torch.full((5, 6, 7), constant), masks)
        torch.testing.assert_close(found, masks.double().mean((1, 2)))


def test_empty_and_large_masks_are_left_out_and_forms_of_masks():
    masks = torch.stack([box_masks([[0, 0, 1, 1]], (3, 3))[0], *torch.zeros(2, 3, 3, dtype=torch.bool)])
    masks[2] = True
    maps = torch.eye(3).expand(3, -1, -1)
    assert box_ratio(maps, masks).isnan().tolist() == [False, True, False]
    for form in (masks, 255 * masks.to(torch.uint8), masks.float()):
        metric = BoxRatio()
        metric.update(maps, form)
        assert (int(metric.count), int(metric.left_out)) == (1, 2)
        assert float(metric.compute()) == pytest.approx(1 / 3)
    for broken in (maps / 0, maps[:, :2], maps[0]):
        with pytest.raises(UserError):
            box_ratio(broken, masks)
