"""The one pass over the images, against naive loops; on one process and on two."""

from collections import Counter

import pytest
import torch

from handful.errors import UserError
from handful.filters import FeatureStatistics, StatisticsCollector, by_strength, top_features
from tests.handful.filters.planted import features_with_ties
from tests.helpers.two_processes import on_two_processes


def naive_counts(features, labels, classes, k1):
    """The histogram by plain Python sorting, ties by index."""
    counters = [Counter() for _ in range(classes)]
    for row, label in zip(features.tolist(), labels.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda f: (-abs(row[f]), f))
        if k1 < 1:
            wanted, kept, mass = k1 * sum(map(abs, row)), [], 0.0
            for f in order:
                if mass >= wanted:
                    break
                kept.append(f)
                mass += abs(row[f])
        else:
            kept = order[:k1]
        counters[label].update(kept)
    return torch.tensor([[c[f] for f in range(features.shape[1])] for c in counters])


def collect(features, labels, k1s, batch=7):
    collector = StatisticsCollector(3, features.shape[1], k1s)
    for part, of in zip(features.split(batch), labels.split(batch), strict=True):
        collector.update(part, of)
    return collector


@pytest.mark.parametrize("k1", [1, 3, 12, 0.25, 0.7, 0.999])
def test_the_histogram_is_that_of_plain_sorting(k1):
    features, labels = features_with_ties(signed=True)
    statistics = collect(features, labels, (2, k1)).compute()
    assert torch.equal(statistics.counts_of(k1), naive_counts(features, labels, 3, k1))
    assert torch.equal(statistics.images, labels.bincount(minlength=3))
    for c in range(3):
        torch.testing.assert_close(statistics.means()[c], features[labels == c].double().mean(0))


def test_a_whole_k1_keeps_as_many_features_and_a_share_says_how_many():
    features, labels = features_with_ties()
    statistics = collect(features, labels, (4, 0.5)).compute()
    torch.testing.assert_close(statistics.kept(4), torch.full((3,), 4.0, dtype=torch.float64))
    assert ((statistics.kept(0.5) > 1) & (statistics.kept(0.5) < 12)).all()
    assert (statistics.frequencies(4) <= 1).all()


def test_an_image_without_any_mass_has_no_strongest_feature_by_share():
    statistics = collect(torch.zeros(4, 6), torch.tensor([0, 1, 2, 0]), (0.5,)).compute()
    assert statistics.counts_of(0.5).sum() == 0


def test_order_and_batch_size_do_not_matter():
    features, labels = features_with_ties()
    shuffle = torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))
    one = collect(features, labels, (3, 0.6), batch=len(labels)).compute()
    other = collect(features[shuffle], labels[shuffle], (3, 0.6), batch=1).compute()
    assert torch.equal(one.counts, other.counts)
    torch.testing.assert_close(one.sums, other.sums, rtol=1e-14, atol=0)


def test_two_processes_count_what_one_counts():
    features, labels = features_with_ties(images=41)
    whole = collect(features, labels, (3, 0.6)).compute()
    for shared in on_two_processes(
        lambda rank: collect(features[rank::2], labels[rank::2], (3, 0.6)).compute().state()
    ):
        shared = FeatureStatistics.from_state(shared)
        assert torch.equal(shared.counts, whole.counts)
        assert torch.equal(shared.images, whole.images)
        torch.testing.assert_close(shared.sums, whole.sums, rtol=1e-14, atol=0)


def test_statistics_survive_a_file(tmp_path):
    features, labels = features_with_ties()
    statistics = collect(features, labels, (3, 0.6)).compute()
    torch.save(statistics.state(), tmp_path / "statistics.pt")
    again = FeatureStatistics.from_state(torch.load(tmp_path / "statistics.pt", weights_only=True))
    assert again.k1s == (3, 0.6)
    assert torch.equal(again.counts_of(0.6), statistics.counts_of(0.6))


def test_ties_go_to_the_lower_index():
    assert by_strength(torch.tensor([[0.0, 2.0, -2.0, 0.0, 5.0]])).tolist() == [[4, 1, 2, 0, 3]]
    wide = torch.zeros(2, 300)  # longer than what sorts stably by accident
    wide[:, 200] = 1
    assert top_features(wide, 4).tolist() == [[200, 0, 1, 2]] * 2


@pytest.mark.parametrize("k1", [0, -1, 13, 2.5])
def test_a_k1_out_of_range_is_refused(k1):
    with pytest.raises(UserError, match="k1 must be"):
        StatisticsCollector(3, 12, (k1,))


def test_a_k2_out_of_range_and_an_uncounted_k1_are_refused():
    features, labels = features_with_ties()
    with pytest.raises(UserError, match="k2 must lie in 1…12"):
        top_features(torch.zeros(3, 12), 13)
    with pytest.raises(UserError, match="k1 7 was not counted"):
        collect(features, labels, (3,)).compute().counts_of(7)
