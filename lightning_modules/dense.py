"""The dense stage: an ordinary classifier whose features are asked to differ."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn

from handful.errors import UserError
from handful.losses.class_weights import ClassWeights
from handful.networks import NetworkConfig, build_classifier, load_weights
from handful.networks.timm_backbone import TimmBackbone
from lightning_modules.base import ClassifierModule, sgd
from lightning_modules.schedules import Interval


class Dense(ClassifierModule):
    """Dense training: cross-entropy + β · L_div, all layers.

    Args:
        network: the network in plain values.
        num_classes: C; the data's.
        init_from: a file of weights to start from: a public checkpoint or one of ours.
        beta: weight of the feature-diversity loss.
        label_smoothing: of the cross-entropy, in [0, 1).
        head_lr: the head's own learning rate; the reference has 0.01 beside 0.005.
        compile_backbone: `torch.compile` the backbone in place.
        optimizer: factory of the optimizer; the default is the reference's SGD.
        lr_scheduler: factory of the schedule.
        lr_scheduler_interval: `epoch` or `step`; None follows the schedule.
        class_weights: of the training loss: "balanced", one number per class, or none.

    Source: "Take 5" (arXiv 2303.13166), step 1.
    """

    def __init__(
        self,
        network: dict[str, Any] | NetworkConfig,
        num_classes: int,
        init_from: str | None = None,
        beta: float = 0.196,
        label_smoothing: float = 0.0,
        head_lr: float | None = None,
        compile_backbone: bool = False,
        optimizer: OptimizerCallable = sgd,
        lr_scheduler: LRSchedulerCallable | None = None,
        class_weights: ClassWeights = None,
        lr_scheduler_interval: Interval | None = None,
    ) -> None:
        super().__init__(
            network, num_classes, beta, label_smoothing, head_lr, compile_backbone, optimizer, lr_scheduler,
            class_weights, lr_scheduler_interval,
        )  # fmt: skip
        self.init_from = init_from
        self.model = build_classifier(self.network, num_classes)

    def hand_over(self, earlier: Mapping[str, Path]) -> None:
        """Start from `init_from`, else from pretrained weights, else fresh."""
        file = self.init_from or (self.network.pretrained if isinstance(self.network.pretrained, str) else None)
        if file is not None:
            if not load_weights(self.model, file):
                rank_zero_warn(f"{file}: no last layer for {self.num_classes} classes; this one starts fresh")
        elif self.network.pretrained:
            if not isinstance(self.model.backbone, TimmBackbone):
                raise UserError(f"network.pretrained: {self.network.backbone} has no published weights; give a file")
            self.model.backbone.load_published()

    @property
    def starts_fresh(self) -> bool:
        """Whether there are no weights to start from."""
        return not (self.init_from or self.network.pretrained)
