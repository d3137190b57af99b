"""Batch norms that see the images of all processes."""

from typing import Any

from lightning.pytorch.plugins.layer_sync import LayerSync
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn


class SyncBatchNorms(LayerSync):
    """What `sync_batchnorm: true` of the Trainer means, also for timm's batch norms that hold an activation.

    Torch's own conversion, which Lightning calls, puts a plain norm in their place: DenseNet and Inception would train
    without their ReLUs, and be tested with them.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """The model with every batch norm synchronised; names and values stay."""
        converted: nn.Module = convert_sync_batchnorm(model)
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """The model as it is: synchronised norms are plain ones in evaluation mode."""
        return model


def synchronised(arguments: dict[str, Any]) -> dict[str, Any]:
    """A Trainer's arguments in which `sync_batchnorm: true` has become a plugin of `SyncBatchNorms`."""
    rest = {name: value for name, value in arguments.items() if name != "sync_batchnorm"}
    if arguments.get("sync_batchnorm"):
        given = rest.get("plugins") or []
        rest["plugins"] = [*(given if isinstance(given, list) else [given]), SyncBatchNorms()]
    return rest
