"""Batch norms of several processes keep the activations that timm puts into them."""

import copy

import pytest
import torch
from torch import nn

from handful.networks import build_classifier
from pipelines.cli import main
from pipelines.commands.lightning import HandfulCLI
from pipelines.sync_batchnorm import SyncBatchNorms, synchronised


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


def test_fit_synchronises_in_the_same_way(tmp_path, monkeypatch):
    """LightningCLI's own command: its Trainer would call torch's conversion."""
    monkeypatch.chdir(tmp_path)
    seen = []

    def stop(cli):
        seen.append(cli.trainer._accelerator_connector._layer_sync)
        raise SystemExit(0)

    monkeypatch.setattr(HandfulCLI, "before_fit", stop)
    fit = ["fit", "--model", "Dense", "--model.network", "{backbone: cifar_resnet20, options: {width: 4}}",
           "--data", "ToyBirds", "--data.n_classes", "2", "--data.images_per_class", "2", "--data.image_size", "24",
           "--trainer.accelerator", "cpu", "--trainer.logger", "false"]  # fmt: skip
    for arguments in ([*fit, "--trainer.sync_batchnorm", "true"], fit):
        with pytest.raises(SystemExit):
            main(arguments)
    assert isinstance(seen[0], SyncBatchNorms)
    assert seen[1] is None


def test_other_plugins_and_arguments_stay():
    first = object()
    out = synchronised({"devices": 2, "sync_batchnorm": True, "plugins": first})
    assert out["devices"] == 2
    assert out["plugins"][0] is first
    assert isinstance(out["plugins"][1], SyncBatchNorms)
    assert synchronised({"devices": 2, "sync_batchnorm": False}) == {"devices": 2}
