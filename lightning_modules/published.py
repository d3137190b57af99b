"""Published weights to start from: process 0 of a run fetches them, the others get them from it."""

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from handful.errors import UserError
from handful.networks import NetworkConfig
from handful.networks.timm_backbone import TimmBackbone

if TYPE_CHECKING:
    from lightning_modules.trained_module import TrainedModule


def take_published(module: "TrainedModule", backbone: nn.Module, network: NetworkConfig) -> None:
    """Give a backbone its published weights, on process 0; `share_weights` gives them to the others.

    A hub that answers one process and not the next would let them start from different weights.

    Args:
        module: holds the backbone as `model.backbone`; its `started_from` is set.
        backbone: one of timm's.
        network: what it was built from.

    Raises:
        UserError: there are no published weights, or they cannot be had.
    """
    if not isinstance(backbone, TimmBackbone):
        raise UserError(f"network.pretrained: {network.backbone} has no published weights; give a file")
    module.awaits_weights = True
    if getattr(rank_zero_only, "rank", 0) == 0:
        module.started_from = backbone.load_published()


def share_weights(module: "TrainedModule", trainer: pl.Trainer) -> None:
    """Give the backbone of process 0 to the other processes of a run, where they await it.

    Every process calls it, once they can speak to each other.
    """
    if not module.awaits_weights:
        return
    module.awaits_weights = False
    backbone: Any = module.model.backbone  # type: ignore[union-attr]
    if trainer.world_size == 1:
        if not module.started_from:  # the environment names another rank, and there is no process 0 to ask
            module.started_from = backbone.load_published()
        return
    mine = {name: value.cpu() for name, value in backbone.state_dict().items()} if trainer.is_global_zero else None
    found = trainer.strategy.broadcast((mine, module.started_from))
    backbone.load_state_dict(found[0])
    module.started_from = found[1]
