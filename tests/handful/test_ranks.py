"""Images are shared out over ranks and put in order again."""

import pytest
import torch

from handful.ranks import dataset_indices, interleave, share


@pytest.mark.parametrize(("size", "world_size"), [(7, 3), (1, 2), (0, 2), (6, 1), (5, 8)])
def test_what_is_shared_out_comes_back_in_order(size, world_size):
    rows = torch.arange(size * 2).reshape(size, 2)
    parts = [rows[list(share(size, rank, world_size))] for rank in range(world_size)]
    assert interleave(parts, size).equal(rows)


def test_every_image_is_held_once():
    held = [index for rank in range(3) for index in share(8, rank, 3)]
    assert sorted(held) == list(range(8))
    assert dataset_indices(0, 3, 1, 3) == list(share(9, 1, 3))
    assert dataset_indices(2, 1, 1, 3) == [7]


def test_a_rank_without_images_may_not_know_their_width():
    found = interleave([torch.ones(1, 3), torch.zeros(0, 0)], 1)
    assert found.shape == (1, 3)


def test_other_numbers_of_rows_are_refused():
    with pytest.raises(ValueError, match="rank 1 gave 2 rows, but holds 1 of 3"):
        interleave([torch.zeros(2, 1), torch.zeros(2, 1)], 3)
