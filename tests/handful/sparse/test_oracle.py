import numpy as np
import pytest
import torch

from handful.sparse.oracle import MemoryOracle, StreamedOracle
from handful.sparse.rows import Rows
from handful.sparse.standardise import column_statistics, design_matrix
from tests.handful.sparse.problems import naive_objective, small, standardised


@pytest.fixture
def problem():
    x, y = small()
    weight = torch.randn(6, 25, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x, y, weight


def oracle_of(x, y, **kwargs):
    return MemoryOracle(design_matrix(Rows(x), column_statistics(x)), y, 6, **kwargs)


def test_loss_and_gradient_are_those_of_the_naive_sum(problem):
    x, y, weight = problem
    seen = oracle_of(x, y, chunk_rows=37)(weight)
    z = standardised(x)
    assert seen.loss == pytest.approx(naive_objective(z, y, weight[:, :-1], weight[:, -1], 0, 0), rel=1e-10)
    w = weight.clone().requires_grad_()
    torch.nn.functional.cross_entropy(torch.cat([z, torch.ones(len(z), 1)], 1) @ w.t(), y).backward()
    assert torch.allclose(seen.gradient, w.grad, atol=1e-10)


def test_curvature_is_the_diagonal_of_the_hessian(problem):
    x, y, weight = problem
    z = torch.cat([standardised(x), torch.ones(len(x), 1)], 1)

    def loss(flat):
        return torch.nn.functional.cross_entropy(z @ flat.view(6, 25).t(), y)

    hessian = torch.autograd.functional.hessian(loss, weight.reshape(-1))
    seen = oracle_of(x, y)(weight, curvature=True)
    assert torch.allclose(seen.curvature.reshape(-1), hessian.diagonal(), atol=1e-10)


@pytest.mark.parametrize("columns", [24, 8, 1])
def test_blocks_are_those_of_the_hessian(problem, columns):
    """More columns than classes and fewer: the product is formed in two orders."""
    x, y, weight = problem
    weight = torch.cat([weight[:, :columns], weight[:, -1:]], 1)
    z = torch.cat([standardised(x)[:, :columns], torch.ones(len(x), 1)], 1)

    def loss(flat):
        return torch.nn.functional.cross_entropy(z @ flat.view(6, columns + 1).t(), y)

    hessian = torch.autograd.functional.hessian(loss, weight.reshape(-1)).view(6, columns + 1, 6, columns + 1)
    design = design_matrix(Rows(x), column_statistics(x), torch.arange(columns))
    for rows in (37, 600):
        oracle = MemoryOracle(design, y, 6, chunk_rows=rows)
        blocks = oracle.blocks(weight)
        assert oracle.passes == 1
        for c in range(6):
            assert torch.allclose(blocks[c], hessian[c, :, c], atol=1e-10)


def test_float32_products_are_near_and_sums_do_not_depend_on_chunks(problem):
    x, y, weight = problem
    exact = oracle_of(x, y)(weight)
    for rows in (64, 600):
        seen = oracle_of(x.float(), y, chunk_rows=rows)(weight)
        assert seen.loss == pytest.approx(exact.loss, rel=1e-6)
        assert torch.allclose(seen.gradient, exact.gradient, atol=1e-6)


def test_logits_far_out_do_not_overflow(problem):
    x, y, weight = problem
    seen = oracle_of(x.float(), y)(weight * 1e4)
    exact = oracle_of(x, y)(weight * 1e4)
    assert np.isfinite(seen.loss)
    assert seen.loss == pytest.approx(exact.loss, rel=1e-5)


def test_streamed_from_disk_is_in_memory(problem, tmp_path):
    x, y, weight = problem
    np.save(tmp_path / "a.npy", x[:211].numpy())
    np.save(tmp_path / "b.npy", x[211:].numpy())
    rows = Rows([tmp_path / "a.npy", tmp_path / "b.npy"], chunk_elements=24 * 50)
    columns = torch.tensor([3, 0, 17])
    streamed = StreamedOracle(rows, column_statistics(rows), y, 6, columns=columns)
    memory = MemoryOracle(design_matrix(Rows(x), column_statistics(x), columns), y, 6)
    w = weight[:, [3, 0, 17, 24]]
    a, b = streamed(w, curvature=True), memory(w, curvature=True)
    assert a.loss == pytest.approx(b.loss, rel=1e-12)
    assert torch.allclose(a.gradient, b.gradient, atol=1e-12)
    assert torch.allclose(a.curvature, b.curvature, atol=1e-12)
    assert torch.allclose(streamed.blocks(w), memory.blocks(w), atol=1e-12)
    assert torch.allclose(streamed.bias_only(), memory.bias_only())


def test_lower_precision_allowed_outside_does_not_get_in(problem):
    x, y, weight = problem
    oracle = oracle_of(x.float(), y)
    plain = oracle(weight)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = oracle(weight)
            blocks = oracle.blocks(weight)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert inside.loss == plain.loss
    assert torch.equal(inside.gradient, plain.gradient)
    assert torch.equal(blocks, oracle.blocks(weight))


def test_a_pass_is_counted(problem):
    x, y, weight = problem
    oracle = oracle_of(x, y)
    oracle(weight)
    oracle(weight, curvature=True)
    assert oracle.passes == 2
