"""The dense stage: an ordinary classifier whose features are asked to differ."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from handful.errors import UserError
from handful.inputs import check_real
from handful.losses import interpretable_filter_loss
from handful.networks import Classifier, NetworkConfig, build_classifier, load_weights
from handful.networks.weights import name_of_weights
from lightning_modules.classifier import ClassifierModule
from lightning_modules.published import take_published


class Dense(ClassifierModule):
    """Dense training: cross-entropy + β · L_div, all layers.

    Args:
        network: the network in plain values.
        num_classes: C; the data's.
        init_from: a file of weights to start from: a public checkpoint or one of ours.
        filter_loss: weight of the interpretable-filter loss (`handful.losses.interpretable_filter_loss`), by which each
            filter comes to stand for one part; 0 switches it off.
        **kwargs: losses and optimizer, see `ClassifierModule`; the reference has `head_lr` 0.01 beside 0.005.

    Source: "Take 5" (arXiv 2303.13166), step 1.
    """

    shared = frozenset({"network", "num_classes", "init_from"})

    def __init__(
        self, network: dict[str, Any] | NetworkConfig, num_classes: int, init_from: str | None = None,
        filter_loss: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(network, num_classes, **kwargs)
        self.save_hyperparameters({"filter_loss": filter_loss}, logger=False)
        self.filter_loss = filter_loss
        self.init_from = init_from
        self.model = build_classifier(self.network, num_classes)

    def further_loss(self, out: dict[str, Tensor]) -> Tensor | float:
        """The interpretable-filter loss of all maps, weighted."""
        if not self.filter_loss:
            return 0.0
        loss = interpretable_filter_loss(out["maps"])
        self.log("train/filter_loss", loss, batch_size=len(out["labels"]))
        return self.filter_loss * loss

    def check(self, classifier: Classifier) -> None:
        """Refuse a frozen backbone without weights, or whose filters were to change."""
        super().check(classifier)
        check_real("filter_loss", self.filter_loss, 0)
        if self.filter_loss and not self.train_backbone:
            raise UserError("filter_loss: has nothing to change where train_backbone is false; set one of them")
        if not self.train_backbone and self.starts_fresh:
            raise UserError(
                "train_backbone is false, but there are no weights to keep; give --init_from or --network.pretrained"
            )

    def take(self, earlier: Mapping[str, Path]) -> None:
        """Start from `init_from`, else from pretrained weights, else fresh; from neither where training resumes."""
        if self.resumed_from is not None:
            return
        file = self.init_from or (self.network.pretrained if isinstance(self.network.pretrained, str) else None)
        if file is not None:
            self.started_from = name_of_weights(file)
            if not load_weights(self.model, file):
                rank_zero_warn(f"{file}: no last layer for {self.num_classes} classes; this one starts fresh")
        elif self.network.pretrained:
            take_published(self, self.model.backbone, self.network)

    @property
    def starts_fresh(self) -> bool:
        """Whether there are no weights to start from."""
        return not (self.init_from or self.network.pretrained)
