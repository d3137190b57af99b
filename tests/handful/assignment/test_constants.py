"""The constants against numpy, scikit-learn and known points."""

import numpy as np
import pytest
import torch
from sklearn.cluster import MeanShift, estimate_bandwidth

from handful.assignment import (
    ClassSums,
    LocalitySums,
    class_correlation,
    feature_similarity,
    qpm_problem,
    similarity_penalty,
)
from handful.assignment.locality import BIAS_SCALE, largest_cluster


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 4
    features = torch.rand(60, 7, generator=generator) + torch.nn.functional.one_hot(labels, 7)
    features[:, 6] = 3.7
    return features, labels


def test_class_correlation_is_pearsons(data):
    features, labels = data
    found = class_correlation(features, labels)
    expected = np.array(
        [[np.corrcoef(features[:, f], labels == c)[0, 1] for f in range(6)] + [0.0] for c in range(4)]
    )
    np.testing.assert_allclose(found, expected / np.abs(expected).max(), atol=1e-6)


def test_sums_of_parts_add_up(data):
    features, labels = data
    whole, parts = ClassSums(4, 7), ClassSums(4, 7)
    whole.update(features, labels)
    for part in range(3):
        parts.update(features[part::3], labels[part::3])
    torch.testing.assert_close(parts.class_correlation(), whole.class_correlation(), rtol=1e-12, atol=1e-12)


def test_a_class_without_images_and_a_constant_feature_correlate_with_nothing(data):
    found = class_correlation(*data, n_classes=5)
    assert not found[4].any()
    assert not found[:, 6].any()
    assert found.isfinite().all()


def test_similarity_is_the_cosine_of_columns(data):
    correlation = class_correlation(*data)
    similarity = feature_similarity(correlation)
    expected = torch.nn.functional.cosine_similarity(correlation[:, 0], correlation[:, 1], dim=0)
    assert float(similarity[0, 1]) == pytest.approx(max(0.0, float(expected)), abs=1e-6)
    assert similarity.equal(similarity.T)
    assert not similarity.diagonal().any()


def test_penalties_start_at_the_threshold_and_reach_one():
    similarity = torch.tensor([[0.0, 0.2, 0.6], [0.2, 0.0, 1.0], [0.6, 1.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, 1.0], [0.5, 1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(similarity_penalty(similarity, 0.5), expected)
    torch.testing.assert_close(similarity_penalty(similarity, 0.6), expected)  # of at least the threshold
    torch.testing.assert_close(similarity_penalty(similarity, 0.6 + 1e-9)[0], torch.zeros(3, dtype=torch.float64))
    assert not similarity_penalty(similarity, float("inf")).any()


def test_the_problem_has_the_published_scale_and_its_constants(data):
    correlation = class_correlation(*data)[:, :6]
    bias = torch.linspace(-0.3, 0.3, 6)
    problem = qpm_problem(correlation, bias, n_features=4, features_per_class=2, threshold=0.1, rho=0.5)
    torch.testing.assert_close(problem.gain, correlation * 1000 / (2 * 4))
    torch.testing.assert_close(problem.penalty, similarity_penalty(feature_similarity(correlation), 0.1))
    torch.testing.assert_close(problem.bias, bias.double())
    assert (problem.n_features, problem.features_per_class, problem.pairs) == (4, 2, 2)


def test_the_largest_cluster_is_mean_shifts():
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(0, 1, 60), generator.normal(12, 1, 20), [40.0]])
    width = estimate_bandwidth(values[:, None])
    shift = MeanShift(bandwidth=width).fit(values[:, None])
    own = values[shift.labels_ == np.bincount(shift.labels_).argmax()]
    low, high = largest_cluster(torch.from_numpy(values))
    assert (low, high) == pytest.approx((own.min(), own.max()))


def test_a_local_feature_is_preferred_to_a_spread_one_and_the_border_gets_the_least():
    maps = torch.rand(8, 6, 7, 7, generator=torch.Generator().manual_seed(0)) * 0.1
    maps[:, 0, 3, 3] = 9.0  # one bright place in the middle
    maps[:, 1] = 0.5  # the same everywhere
    maps[:, 2, 0, 3] = 9.0  # bright on the border
    sums = LocalitySums(6)
    sums.update(maps[:5])
    sums.update(maps[5:])
    bias = sums.bias()
    assert bias.argmax() == 0
    assert bias[2] == bias.min()
    assert float(bias.abs().max()) == pytest.approx(BIAS_SCALE)
    assert float(bias.mean()) == pytest.approx(0.0, abs=1e-9)
