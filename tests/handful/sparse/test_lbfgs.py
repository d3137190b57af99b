import torch

from handful.sparse.lbfgs import Memory


def test_the_recursion_is_the_bfgs_formula_on_the_free_variables():
    """Against B, updated pair by pair as a dense matrix, restricted to the free variables and inverted."""
    g = torch.Generator().manual_seed(0)
    root = torch.randn(12, 12, dtype=torch.float64, generator=g)
    hessian = root @ root.t() + torch.eye(12, dtype=torch.float64)
    inverse_diagonal = 0.2 + torch.rand(3, 4, dtype=torch.float64, generator=g)
    free = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 1, 1]]).bool()
    memory = Memory(3)
    pairs = []
    for _ in range(5):  # two more than it holds
        step = torch.randn(3, 4, dtype=torch.float64, generator=g)
        change = (hessian @ step.reshape(-1)).view(3, 4)
        memory.push(step, change)
        pairs.append((step, change))
    memory.push(step, -change)  # without positive curvature: passed over
    vector = torch.randn(3, 4, dtype=torch.float64, generator=g)
    found = memory.solve(vector, (inverse_diagonal * free).mul, free)

    some = free.reshape(-1).nonzero()[:, 0]
    kept = [(s.reshape(-1)[some], y.reshape(-1)[some]) for s, y in pairs[-3:]]
    kept = [(s, y) for s, y in kept if s @ y > 0]
    assert len(kept) >= 2
    h0 = inverse_diagonal.reshape(-1)[some]
    s, y = kept[-1]
    scale = (s @ y) / (y @ (h0 * y))
    b = torch.diag(1 / (scale * h0))
    for s, y in kept:
        bs = b @ s
        b = b - torch.outer(bs, bs) / (s @ bs) + torch.outer(y, y) / (s @ y)
    assert torch.allclose(found.reshape(-1)[some], torch.linalg.solve(b, vector.reshape(-1)[some]), rtol=1e-9)
    assert not found[~free].any()


def test_a_pair_that_bends_down_on_the_free_variables_is_passed_over():
    free = torch.tensor([[True, True, False]])
    memory = Memory()
    good = (torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[2.0, 0.0, 0.0]]))
    memory.push(*good)
    memory.push(torch.tensor([[0.0, 1.0, 1.0]]), torch.tensor([[0.0, -1.0, 5.0]]))
    alone = Memory()
    alone.push(*good)
    vector = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.equal(memory.solve(vector, free.float().mul, free), alone.solve(vector, free.float().mul, free))


def test_without_pairs_it_is_the_start():
    free = torch.ones(2, 2, dtype=torch.bool)
    vector = torch.arange(4.0).view(2, 2)
    assert torch.equal(Memory().solve(vector, (2 * free).mul, free), 2 * vector)
    memory = Memory()
    memory.push(vector, vector)
    memory.clear()
    assert torch.equal(memory.solve(vector, (2 * free).mul, free), 2 * vector)
