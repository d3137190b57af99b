"""Single decisions: which errors are shown first."""

import torch

from handful.explain.deciding import DecidingFeatures
from handful.explain.local import confident_errors
from handful.networks import build_classifier


def test_errors_come_by_confidence_also_where_pairs_of_classes_repeat():
    """An error of 92 % stood below two of 40 %, as its pair of classes was shown before."""
    model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 3).eval()
    deciding = DecidingFeatures(model, torch.rand(6, 4), torch.tensor([0, 0, 1, 2, 0, 1]), ["owl", "wren", "robin"])
    deciding.predicted = torch.tensor([1, 1, 2, 0, 1, 1])
    deciding.probability = torch.tensor([0.92, 0.96, 0.4, 0.41, 0.5, 0.9])
    assert confident_errors(deciding, 4) == [1, 0, 3, 2]
    assert confident_errors(deciding, 3) == [1, 3, 2]  # of each pair one
    assert confident_errors(deciding, 9) == [1, 0, 4, 3, 2]
    assert confident_errors(deciding, 2, label=0) == [1, 0]
