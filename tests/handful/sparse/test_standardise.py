import numpy as np
import pytest
import torch

from handful.errors import UserError
from handful.networks import heads
from handful.sparse.rows import Rows
from handful.sparse.standardise import MIN_STD, column_statistics, design_matrix


def test_two_passes_hold_where_squares_would_cancel():
    x = 10_000 + torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    found = column_statistics(x)
    assert np.allclose(found.mean, x.double().mean(0), rtol=1e-12)
    assert np.allclose(found.std, x.double().std(0, unbiased=False), rtol=1e-6)


def test_chunks_and_arrays_and_files_give_the_same(tmp_path):
    x = torch.randn(777, 11, generator=torch.Generator().manual_seed(1)) * 3 + 1
    np.save(tmp_path / "a.npy", x[:300].numpy())
    np.save(tmp_path / "b.npy", x[300:].numpy())
    whole = column_statistics(x)
    for other in (x.numpy(), [x[:5], x[5:5], x[5:]], [tmp_path / "a.npy", tmp_path / "b.npy"]):
        found = column_statistics(Rows(other, chunk_elements=700))
        assert torch.allclose(found.mean, whole.mean, rtol=1e-12)
        assert torch.allclose(found.std, whole.std, rtol=1e-6)
        assert found.n_rows == 777


def test_columns_without_variance_are_dead_whatever_their_value():
    x = torch.randn(500, 5, generator=torch.Generator().manual_seed(2))
    x[:, 1] = 0.1
    x[:, 3] = 1e6
    x[0, 3] += 0.0625  # one step of float32 at that size
    assert column_statistics(x).dead.tolist() == [1, 3]


def test_dead_columns_standardise_to_zero_and_the_last_column_is_one():
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(3))
    x[:, 1] = 0.1
    design = design_matrix(Rows(x), column_statistics(x))
    assert design[:, 1].abs().max() < 0.1
    assert torch.equal(design[:, 3], torch.ones(100))
    assert torch.allclose(design[:, 0].double().std(unbiased=False), torch.tensor(1.0, dtype=torch.float64))


def test_design_keeps_the_asked_columns_and_rows():
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(4))
    s = column_statistics(x)
    whole = design_matrix(Rows(x), s)
    part = design_matrix(Rows(x, chunk_elements=30), s, torch.tensor([4, 1]), torch.tensor([0, 7, 49]))
    assert torch.equal(part, whole[[0, 7, 49]][:, [4, 1, 6]])


def test_the_head_divides_by_the_same_floor():
    assert heads.MIN_STD == MIN_STD


def test_half_precision_on_disk_is_computed_in_float32(tmp_path):
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(5)).half()
    np.save(tmp_path / "h.npy", x.numpy())
    rows = Rows([str(tmp_path / "h.npy")])
    assert rows.dtype == torch.float32
    assert torch.equal(rows.columns(torch.tensor([2])), x[:, 2:3].float())
    assert rows.in_memory is None


@pytest.mark.parametrize(
    ("features", "says"),
    [
        (torch.zeros(4), "matrix"),
        (torch.zeros(4, 2, dtype=torch.int64), "floating point"),
        ([], "no rows"),
        (torch.zeros(0, 3), "no rows"),
        ([torch.zeros(4, 2), torch.zeros(4, 3)], "different width"),
        (["nowhere.npy"], "nowhere.npy"),
    ],
)
def test_what_is_no_matrix_is_refused(features, says):
    with pytest.raises(UserError, match=says):
        column_statistics(features)
