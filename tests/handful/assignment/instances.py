"""Random instances of the assignment problem."""

import torch

from handful.assignment import AssignmentProblem


def instance(seed, candidates=16, classes=5, features=6, per_class=2, penalty=30.0):
    """Random gains, and penalties on two fifths of the pairs."""
    generator = torch.Generator().manual_seed(seed)
    gain = 100 * torch.randn(classes, candidates, generator=generator, dtype=torch.float64)
    pairs = torch.rand(candidates, candidates, generator=generator, dtype=torch.float64)
    pairs = (penalty * pairs * (pairs > 0.6)).triu(1)
    bias = 0.3 * torch.randn(candidates, generator=generator, dtype=torch.float64)
    return AssignmentProblem(gain, pairs + pairs.T, bias, features, per_class)


def by_enumeration(problem):
    """The optimum, by trying every set and every assignment."""
    from itertools import combinations, product

    best = -float("inf")
    for chosen in combinations(range(problem.n_candidates), problem.n_features):
        selection = torch.tensor(chosen)
        own = problem.gain[:, selection]
        terms = float(problem.set_terms(selection))
        if float(own.topk(problem.features_per_class, dim=1).values.sum()) + terms <= best:
            continue
        subsets = list(combinations(range(problem.n_features), problem.features_per_class))
        sums = [[float(row[list(subset)].sum()) for subset in subsets] for row in own]
        for places in product(range(len(subsets)), repeat=problem.n_classes):
            if len(set(places)) < len(places) or len({i for p in places for i in subsets[p]}) < problem.n_features:
                continue
            alike = [len(set(subsets[p]) & set(subsets[q])) for p, q in combinations(places, 2)]
            if alike.count(problem.features_per_class - 1) < problem.pairs:
                continue
            best = max(best, sum(sums[c][p] for c, p in enumerate(places)) + terms)
    return best


def alike(seed, candidates=200, classes=60, archetypes=12, features=30, per_class=5, noise=0.02):
    """Classes in groups that want nearly the same features, as of real species."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randn(archetypes, candidates, generator=generator, dtype=torch.float64)
    gain = kinds[torch.arange(classes) % archetypes]
    gain = gain + noise * torch.randn(classes, candidates, generator=generator, dtype=torch.float64)
    empty = torch.zeros(candidates, candidates, dtype=torch.float64)
    return AssignmentProblem(gain, empty, empty[0], features, per_class)


def by_whole_program(problem):
    """The optimum by HiGHS, of the problem as it is defined: every row at once, none added as it is violated."""
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import lil_array

    n_classes, count = problem.gain.shape
    penalised = problem.penalty.triu().nonzero().tolist()
    classes = [(c, d) for c in range(n_classes) for d in range(c)]
    own = count + n_classes * count  # s, then E, then pairs of features, then what two classes share
    shared = own + len(penalised)
    width = shared + len(classes) * count

    def place(c, i):
        return count + c * count + i

    rows = [(dict.fromkeys(range(count), 1.0), problem.n_features, problem.n_features)]
    for c in range(n_classes):
        k = problem.features_per_class
        rows.append(({place(c, i): 1.0 for i in range(count)}, k, k))
        rows += [({place(c, i): 1.0, i: -1.0}, -np.inf, 0.0) for i in range(count)]
    for i in range(count):
        rows.append(({i: -1.0} | {place(c, i): 1.0 for c in range(n_classes)}, 0.0, np.inf))
    for number, (i, j) in enumerate(penalised):
        rows.append(({own + number: 1.0, i: -1.0, j: -1.0}, -1.0, np.inf))
    for number, (c, d) in enumerate(classes):
        first = shared + number * count
        rows.append((dict.fromkeys(range(first, first + count), 1.0), -np.inf, problem.features_per_class - 1))
        rows += [
            ({first + i: 1.0, place(c, i): -1.0, place(d, i): -1.0}, -1.0, np.inf) for i in range(count)
        ]
    matrix = lil_array((len(rows), width))
    for number, (row, _, _) in enumerate(rows):
        for column, value in row.items():
            matrix[number, column] = value
    cost = np.zeros(width)
    cost[:count] = -problem.bias.numpy()
    cost[count:own] = -problem.gain.numpy().ravel()
    cost[own:shared] = [float(problem.penalty[i, j]) for i, j in penalised]
    whole = np.zeros(width)
    whole[:own] = 1
    result = milp(
        cost, constraints=LinearConstraint(matrix.tocsr(), [row[1] for row in rows], [row[2] for row in rows]),
        bounds=Bounds(0.0, 1.0), integrality=whole, options={"mip_rel_gap": 0.0},
    )  # fmt: skip
    assert result.status == 0
    return -float(result.fun)
