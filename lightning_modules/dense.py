"""The dense stage: an ordinary classifier whose features are asked to differ."""

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn import functional

from handful.conversions import check_real, check_whole
from handful.errors import UserError, did_you_mean
from handful.features import FeatureBatch
from handful.losses import MutualChannelLoss, interpretable_filter_loss
from handful.networks import AuxiliaryClassifier, Classifier, NetworkConfig, build_classifier, load_weights
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
        filter_scale: strength of that loss's templates on maps of unit size; None for the published ones on the maps as
            they are, which suit large activations.
        mutual_channel: arguments of the mutual-channel loss (`handful.losses.MutualChannelLoss`), `{}` for its
            authors'; None leaves it out. It takes the place of L_div: set `beta` to 0.
        auxiliary: a second classifier on a layer in the middle, as Inception-v3 is trained with: `{layer, weight}`, by
            default `net.Mixed_6e` and 0.4; None for none. It is not part of the classifier that is kept.
        published_head: whether the last layer that the network was published with is taken too, where `pretrained` is
            true; the data has its classes then (`ImageNetFolder`).
        **kwargs: losses and optimizer, see `ClassifierModule`; the reference has `head_lr` 0.01 beside 0.005.

    Source: "Take 5" (arXiv 2303.13166), step 1.
    """

    shared = frozenset({"network", "num_classes", "init_from"})

    def __init__(
        self, network: dict[str, Any] | NetworkConfig, num_classes: int, init_from: str | None = None,
        filter_loss: float = 0.0, filter_scale: float | None = None, mutual_channel: dict[str, Any] | None = None,
        auxiliary: dict[str, Any] | None = None, published_head: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(network, num_classes, **kwargs)
        self.published_head = published_head
        self.save_hyperparameters(
            {"filter_loss": filter_loss, "filter_scale": filter_scale, "mutual_channel": mutual_channel,
             "auxiliary": auxiliary}, logger=False
        )  # fmt: skip
        self.filter_loss, self.filter_scale = filter_loss, filter_scale
        self.mutual_channel = None if mutual_channel is None else _mutual_channel(num_classes, mutual_channel)
        self.init_from = init_from
        self.model = build_classifier(self.network, num_classes)
        backbone = self.model.backbone
        self.auxiliary = None if auxiliary is None else AuxiliaryClassifier.on(backbone, num_classes, auxiliary)

    def training_step(self, batch: tuple[Tensor, Tensor] | FeatureBatch, batch_idx: int) -> dict[str, Tensor]:
        """The step of any classifier, the auxiliary one looking on."""
        with contextlib.nullcontext() if self.auxiliary is None else self.auxiliary.watching(self.model.backbone):
            return super().training_step(batch, batch_idx)

    def further_loss(self, out: dict[str, Tensor]) -> Tensor | float:
        """The interpretable-filter, mutual-channel and auxiliary losses, weighted."""
        total: Tensor | float = 0.0
        if self.filter_loss:
            loss = interpretable_filter_loss(out["maps"], self.filter_scale)
            total = total + self.filter_loss * self._logged("filter", loss, out)
        if self.mutual_channel is not None:
            total = total + self._logged("mutual_channel", self.mutual_channel(out["maps"], out["labels"]), out)
        if self.auxiliary is not None:
            loss = functional.cross_entropy(self.auxiliary.logits(), out["labels"])
            total = total + self.auxiliary.weight * self._logged("auxiliary", loss, out)
        return total

    @property
    def measures(self) -> Collection[str]:
        """With the further losses that count."""
        further = {"filter": self.filter_loss, "mutual_channel": self.mutual_channel, "auxiliary": self.auxiliary}
        return {*super().measures, *(f"train/{name}_loss" for name, given in further.items() if given)}

    def _logged(self, name: str, loss: Tensor, out: dict[str, Tensor]) -> Tensor:
        self.log(f"train/{name}_loss", loss, batch_size=len(out["labels"]))
        return loss

    def head_parameters(self) -> list[nn.Parameter]:
        """Those of the head and of the auxiliary classifier."""
        return super().head_parameters() + ([] if self.auxiliary is None else list(self.auxiliary.parameters()))

    def check(self, classifier: Classifier) -> None:
        """Refuse a frozen backbone without weights, or whose filters were to change."""
        super().check(classifier)
        check_real("filter_loss", self.filter_loss, 0)
        if self.published_head and (self.network.pretrained is not True or self.network.adapter is not None):
            raise UserError(
                "published_head: the published last layer belongs to the published backbone alone: set "
                "network.pretrained to true and leave network.adapter out, or leave published_head out"
            )
        if self.filter_scale is not None:
            check_real("filter_scale", self.filter_scale, 0, open_below=True)
        if self.filter_loss and not self.train_backbone:
            raise UserError("filter_loss: has nothing to change where train_backbone is false; set one of them")
        for name, given in (("mutual_channel", self.mutual_channel), ("auxiliary", self.auxiliary)):
            if given is not None and not self.train_backbone:
                raise UserError(f"{name}: has nothing to change where train_backbone is false; set one of them")
        if self.mutual_channel is not None:
            used = self.num_classes * self.mutual_channel.channels
            if used > classifier.num_features:
                raise UserError(
                    f"mutual_channel: {self.mutual_channel.channels} channels for each of {self.num_classes} classes "
                    f"are {used}, but the backbone has {classifier.num_features} feature maps; give fewer channels"
                )
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
            take_published(self, self.model.backbone, self.network, self.published_head)

    @property
    def starts_fresh(self) -> bool:
        """Whether there are no weights to start from."""
        return not (self.init_from or self.network.pretrained)


def _mutual_channel(num_classes: int, options: dict[str, Any]) -> MutualChannelLoss:
    known = ("channels", "discriminality", "diversity")
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UserError(f"mutual_channel: no option {unknown[0]!r}; there are {', '.join(known)}"
                        f"{did_you_mean(unknown[0], known)}")  # fmt: skip
    check_whole("mutual_channel.channels", options.get("channels", 3), 1)
    for name in known[1:]:
        check_real(f"mutual_channel.{name}", options.get(name, 0.0), 0)
    return MutualChannelLoss(num_classes, **options)
