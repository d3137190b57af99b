"""Numbers about sets of filters, against closed forms and scikit-learn."""

import pytest
import torch
from sklearn.metrics import mutual_info_score

from handful.errors import UserError
from handful.filters import concentration, overlap, pairwise_information, union_size

FILTERS = torch.tensor([[0, 1, 2], [2, 3, 4], [9, 8, 7]])


def test_overlap_counts_common_filters_whatever_their_order():
    others = torch.tensor([[2, 0, 1], [4, 9, 5], [0, 1, 2]])
    torch.testing.assert_close(overlap(FILTERS, others), torch.tensor([1, 1 / 3, 0], dtype=torch.float64))


def test_overlap_takes_filters_of_any_kind_and_refuses_others_in_one_sentence():
    expected = overlap(FILTERS, FILTERS.flip(1))
    for kind in (FILTERS.tolist(), FILTERS.numpy(), FILTERS.short(), FILTERS.double(), list(FILTERS)):
        assert torch.equal(overlap(kind, FILTERS.flip(1)), expected)
        assert torch.equal(overlap(FILTERS.flip(1), kind), expected)
    for wrong in ([[0, 1], [2]], [0, 1, 2], FILTERS[:2], FILTERS.double() + 0.5, "filters", FILTERS - 3, None):
        with pytest.raises(UserError, match=r"^others: "):
            overlap(FILTERS, wrong)


def test_union_counts_a_shared_filter_once():
    assert union_size(FILTERS) == 8


def test_concentration_is_the_share_of_the_highest_bins():
    counts = torch.tensor([[6, 0, 3, 1], [5, 5, 5, 5]])
    torch.testing.assert_close(concentration(counts, 2), torch.tensor([0.9, 0.5], dtype=torch.float64))


def test_pairwise_information_is_the_mean_mutual_information():
    rows = [[int(f in row) for f in range(20)] for row in FILTERS.tolist()]
    pairs = [mutual_info_score(rows[i], rows[j]) for i in range(3) for j in range(3) if i != j]
    expected = sum(pairs) / len(pairs) / torch.tensor(2.0).log().item()
    assert pairwise_information(FILTERS, 20) == pytest.approx(expected, rel=1e-6)


def test_shared_sets_tell_everything():
    shared = torch.tensor([[0, 1], [1, 0]])
    share = torch.tensor([0.25, 0.75])
    assert pairwise_information(shared, 8) == pytest.approx(float(-(share * share.log2()).sum()), rel=1e-6)
