"""Rank correlation and SSIM against scipy and scikit-image."""

import numpy
import pytest
import scipy.stats
import torch
from skimage.metrics import structural_similarity as reference

from handful.metrics.similarity import mean_ranks, rank_correlation, structural_similarity


def test_ranks_and_their_correlation_with_ties():
    values = torch.randint(0, 6, (4, 50), generator=torch.Generator().manual_seed(0)).float()
    others = torch.randn(4, 50, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    for row in range(4):
        numpy.testing.assert_allclose(mean_ranks(values)[row], scipy.stats.rankdata(values[row]) - 1)
        expected = scipy.stats.spearmanr(values[row], others[row])[0]
        assert float(rank_correlation(values, others)[row]) == pytest.approx(expected)
    assert float(rank_correlation(torch.ones(5), torch.arange(5.0))) == 0
    assert rank_correlation(torch.arange(5.0), torch.ones(5)).isnan()


def test_structural_similarity_is_scikit_images():
    one, other = torch.rand(2, 2, 24, 20, generator=torch.Generator().manual_seed(0)).double().unbind(1)
    other = 0.5 * other + 0.5 * one

    def stretched(m):
        return ((m - m.min()) / (m.max() - m.min())).numpy()

    for row in range(2):
        expected = reference(
            stretched(one[row]), stretched(other[row]), gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            data_range=1, full=True,
        )[1][5:-5, 5:-5].mean()  # fmt: skip
        cut = structural_similarity(one[row : row + 1], other[row : row + 1], full=True)[0, 5:-5, 5:-5].mean()
        assert float(cut) == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(structural_similarity(one, 3 * one - 7), torch.ones(2).double())
    assert structural_similarity(torch.ones(1, 9, 9), one[:1, :9, :9]).isfinite().all()
