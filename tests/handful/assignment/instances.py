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
