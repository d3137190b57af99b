"""Batch norms of several processes keep the activations that timm puts into them."""

import copy

import pytest
import torch
from torch import nn

from handful.networks import build_classifier
from pipelines.sync_batchnorm import SyncBatchNorms


@pytest.mark.parametrize("backbone", ["densenet121", "inception_v3", "resnet18", "cifar_resnet20"])
def test_a_converted_network_computes_the_same(backbone):
    torch.manual_seed(0)
    model = build_classifier({"backbone": backbone}, 3).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
    converted = SyncBatchNorms().apply(copy.deepcopy(model))
    assert any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules())
    assert converted.state_dict().keys() == model.state_dict().keys()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(converted(images), model(images))
