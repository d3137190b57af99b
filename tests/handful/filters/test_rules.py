"""The rules, on hand-made features whose answers are plain to see."""

import pytest
import torch

from handful.errors import UserError
from handful.filters import StatisticsCollector, score_features, select_filters

# class 0: feature 0 in every image but weak on the whole, feature 1 once and huge; class 1: feature 2, then 3
FEATURES = torch.tensor([[2.0, 1, 0, 0], [2, 1, 0, 0], [2, 40, 0, 0], [0, 0, 3, 2], [0, 0, 3, 1]])
LABELS = torch.tensor([0, 0, 0, 1, 1])
WEIGHT = torch.tensor([[1.0, 0.01, -9, 0.5], [0.2, 0.1, 0.3, 4]])


@pytest.fixture
def statistics():
    collector = StatisticsCollector(2, 4, (1, 2))
    collector.update(FEATURES, LABELS)
    return collector.compute()


@pytest.mark.parametrize(
    ("rule", "best"),
    [
        ("frequency", [0, 2]),
        ("activation", [1, 2]),
        ("contribution", [0, 3]),
        ("weight", [0, 3]),
        ("absolute_weight", [2, 3]),
    ],
)
def test_each_rule_finds_its_own_best_feature(statistics, rule, best):
    assert select_filters(rule, 1, statistics, WEIGHT, k1=1)[:, 0].tolist() == best


def test_contribution_is_what_the_feature_adds_to_the_mean_logit(statistics):
    scores = score_features("contribution", statistics, WEIGHT)
    logits = (FEATURES @ WEIGHT.T).double()
    for c in range(2):
        torch.testing.assert_close(scores[c].sum(), logits[c == LABELS, c].mean(), rtol=1e-6, atol=0)


def test_the_weight_rules_need_no_images():
    assert select_filters("weight", 2, weight=WEIGHT).tolist() == [[0, 3], [3, 2]]


def test_a_class_without_images_is_refused():
    collector = StatisticsCollector(3, 4, (1,))
    collector.update(FEATURES, LABELS)
    with pytest.raises(UserError, match="no image of class 2"):
        select_filters("frequency", 1, collector.compute(), k1=1)


def test_unknown_rules_and_missing_parts_are_refused(statistics):
    with pytest.raises(UserError, match="rule: no 'best'"):
        select_filters("best", 1, statistics)
    with pytest.raises(ValueError, match="needs the weights"):
        select_filters("contribution", 1, statistics)
    with pytest.raises(ValueError, match="needs statistics"):
        select_filters("frequency", 1)
