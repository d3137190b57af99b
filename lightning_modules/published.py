"""Published weights to start from: process 0 of a run fetches them, the others get them from it."""

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from handful.errors import UserError
from handful.networks import Classifier, NetworkConfig
from handful.networks.adapter import without_adapter
from handful.networks.published import published_head
from handful.networks.timm_backbone import TimmBackbone

if TYPE_CHECKING:
    from lightning_modules.trained_module import TrainedModule


def take_published(
    module: "TrainedModule", backbone: nn.Module, network: NetworkConfig, head: bool = False
) -> None:
    """Give a backbone its published weights, on process 0; `share_weights` gives them to the others.

    A hub that answers one process and not the next would let them start from different weights.

    Args:
        module: holds the backbone as `model.backbone`; its `started_from` is set.
        backbone: one of timm's, with an adapter behind it or without.
        network: what it was built from.
        head: whether the last layer is taken too, into `model.head`.

    Raises:
        UserError: there are no published weights, or they cannot be had; a last layer of other classes.
    """
    backbone = without_adapter(backbone)
    if not isinstance(backbone, TimmBackbone):
        raise UserError(f"network.pretrained: {network.backbone} has no published weights; give a file")
    module.awaits_weights = True
    module.awaits_head = head
    if getattr(rank_zero_only, "rank", 0) == 0:
        _load(module)


def _load(module: "TrainedModule") -> None:
    """Fill the backbone of a module, and its last layer where that is wanted too.

    Raises:
        UserError: as `take_published`.
    """
    model: Any = module.model
    module.started_from = without_adapter(model.backbone).load_published()  # type: ignore[operator]
    if module.awaits_head:
        network: Any = module.network
        _take_head(model, *published_head(network.backbone, network.options))


def _take_head(model: Classifier, weight: Tensor, bias: Tensor) -> None:
    """Fill a dense head.

    Raises:
        UserError: of other classes.
    """
    if weight.shape != model.head.class_weights()[0].shape:
        raise UserError(
            f"published_head: the published last layer has {len(weight)} classes, the data {model.num_classes}; where "
            "these are some of ImageNet's, give --data.class_path ImageNetFolder, else leave published_head out"
        )
    model.head.load_state_dict({"linear.weight": weight, "linear.bias": bias})


def share_weights(module: "TrainedModule", trainer: pl.Trainer) -> None:
    """Give the network of process 0 to the other processes of a run, where they await it.

    Every process calls it, once they can speak to each other.
    """
    if not module.awaits_weights:
        return
    module.awaits_weights = False
    model: Any = module.model
    if trainer.world_size == 1:
        if not module.started_from:  # the environment names another rank, and there is no process 0 to ask
            _load(module)
        return
    mine = {name: value.cpu() for name, value in model.state_dict().items()} if trainer.is_global_zero else None
    found = trainer.strategy.broadcast((mine, module.started_from))
    model.load_state_dict(found[0])
    module.started_from = found[1]
