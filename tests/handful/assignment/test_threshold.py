"""The threshold search at planted cliques."""

import itertools

import pytest
import torch

from handful.assignment.threshold import clique_threshold, has_clique
from handful.errors import UserError


def planted(size=8, count=40, inside=0.1):
    """Similarities in which exactly the first `size` features are mutually dissimilar."""
    generator = torch.Generator().manual_seed(0)
    similarity = 0.5 + 0.5 * torch.rand(count, count, generator=generator, dtype=torch.float64)
    similarity[:size, :size] = inside * torch.rand(size, size, generator=generator, dtype=torch.float64)
    similarity = similarity.triu(1)
    return similarity + similarity.T


def test_the_threshold_lies_just_above_the_planted_set():
    similarity = planted()
    found = clique_threshold(similarity, 8)
    assert float(similarity[:8, :8].max()) < found
    below = similarity[similarity < found]
    # one step of the grid is a hundredth of the entries
    assert (below > float(similarity[:8, :8].max())).sum() <= 2 * similarity.numel() / 100


def test_a_clique_is_found_or_not():
    similarity = planted()
    assert has_clique(similarity < 0.2, 8)
    assert not has_clique(similarity < 0.2, 9)


def test_more_features_than_there_are_is_refused():
    with pytest.raises(UserError, match="only 40 features"):
        clique_threshold(planted(), 41)


def test_where_no_such_features_are_nothing_is_penalised():
    alike = torch.ones(6, 6).fill_diagonal_(0)
    assert clique_threshold(alike, 4) == float("inf")


def least_of_the_largest(similarity, size):
    """The smallest largest similarity of any `size` features."""
    return min(
        float(similarity[list(chosen)][:, list(chosen)].max())
        for chosen in itertools.combinations(range(len(similarity)), size)
    )


@pytest.mark.parametrize("size", range(2, 13))
def test_few_features_have_a_threshold_too(size):
    """The first quantile above what every set of that size has; of all twelve none lies above the largest."""
    similarity = planted(size=3, count=12)
    found = clique_threshold(similarity, size)
    least = least_of_the_largest(similarity, size)
    assert found > least
    if size == 12:
        assert found == float("inf")
    else:
        assert has_clique(similarity < found, size)
        # the quantiles are steps of a hundredth of the entries; a pair has two
        assert ((similarity > least) & (similarity < found)).sum() <= 2 * 2
