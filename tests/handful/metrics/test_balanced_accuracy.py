"""Balanced accuracy against scikit-learn, exact over ranks; weights of the classes."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.class_weight import compute_class_weight

from handful.errors import UserError
from handful.losses.class_weights import check_class_weights, loss_weights
from handful.metrics import BalancedAccuracy


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_mean_recall_of_the_classes_that_are_there(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (50,), generator=generator) ** 2 % 5  # 0, 1 and 4: two of five classes are missing
    predicted = torch.where(torch.rand(50, generator=generator) < 0.6, labels, torch.randint(0, 5, (50,)))
    metric = BalancedAccuracy(5)
    for part in torch.arange(50).split(7):
        metric.update(predicted[part], labels[part])
    present = labels.unique()
    expected = sum(float((predicted[labels == c] == c).double().mean()) for c in present) / len(present)
    assert float(metric.compute()) == pytest.approx(100 * expected, abs=1e-10)
    if set(predicted.tolist()) <= set(labels.tolist()):
        assert float(metric.compute()) == pytest.approx(100 * balanced_accuracy_score(labels, predicted), abs=1e-10)
    metric.reset()
    assert torch.isnan(metric.compute())


def test_balanced_weights_are_those_of_scikit_learn():
    labels = torch.tensor([0] * 7 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    weights = loss_weights("balanced", labels, 3)
    assert weights.tolist() == pytest.approx(expected.tolist())
    assert float(weights[labels].mean()) == pytest.approx(1)  # the loss keeps its scale
    assert loss_weights("none", labels, 3) is loss_weights(None, labels, 3) is None
    assert loss_weights([1, 2, 0.5], labels, 3).tolist() == [1, 2, 0.5]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [([1.0, 2.0], "2 numbers for 3"), ([1.0, -1.0, 1.0], "class 1 is -1"), ([1.0, float("nan"), 1.0], "class 1 is nan"),
     ([0.0, 0.0, 0.0], "all are 0"), ("even", "balanced, none or one number per class")],
)  # fmt: skip
def test_weights_that_cannot_be_used_are_refused(given, sentence):
    with pytest.raises(UserError, match=f"class_weights: .*{sentence}"):
        check_class_weights(given, 3)
