"""A classifier that is trained: its losses, steps, measures and optimizer."""

import math
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Self

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional

from handful.errors import UserError
from handful.features import FeatureBatch
from handful.losses import feature_diversity_loss
from handful.losses.class_weights import ClassWeights, check_class_weights, loss_weights
from handful.metrics import BalancedAccuracy, Dependence, DiversityAtK, Mean
from handful.networks import Classifier, NetworkConfig
from handful.networks.adapter import AdaptedBackbone, without_adapter
from handful.networks.description import KEY as DESCRIPTION
from handful.networks.description import describe
from lightning_modules.batches import checked_images, checked_logits, class_probabilities, labelled
from lightning_modules.schedules import Interval, check_optimizer, configured
from lightning_modules.trained_module import TrainedModule
from lightning_modules.trainer_data import TrainerData

#: The largest k of diversity@k in the results.
MAX_DIVERSITY = 5


def sgd(params: Any) -> torch.optim.Optimizer:
    """The reference's optimizer: SGD, learning rate 0.005, momentum 0.9, weight decay 5e-4."""
    return torch.optim.SGD(params, lr=0.005, momentum=0.9, weight_decay=5e-4)


class ClassifierModule(TrainedModule):
    """A classifier with its losses, steps, measures and optimizer.

    All steps return `{"loss", "logits", "features", "maps", "labels"}`, so that callbacks need no forward pass of
    their own.

    Args:
        network: the network in plain values (`handful.networks.NetworkConfig`).
        num_classes: C; the data's.
        beta: weight of the feature-diversity loss; 0 switches it off. 0.196 is the reference's for ResNet-50.
        label_smoothing: of the cross-entropy, in [0, 1).
        head_lr: the head's own learning rate, where it differs from the optimizer's.
        compile_backbone: `torch.compile` the backbone in place.
        optimizer: factory of the optimizer.
        lr_scheduler: factory of the learning-rate schedule; None keeps the rate.
        lr_scheduler_interval: whether the schedule steps by epochs or by batches; None follows the schedule
            (`lightning_modules.schedules.configured`).
        class_weights: of the training loss: "balanced" (all classes count the same), one number per class, or none.
        train_backbone: whether the backbone is trained with the head. Otherwise it stays in evaluation mode, the
            statistics of its batch norms as they are, and a pipeline computes its features once, of the un-augmented
            images, and keeps them in the data's cache. An adapter (`network.adapter`) is trained in any case.
    """

    leaves: ClassVar[frozenset[str]] = frozenset({"a network", "a classifier"})
    model: Classifier
    #: The stage that is being tested, where several are.
    stage = ""
    #: Of the classes in the training loss, `(C,)`; known when training begins.
    loss_weights: Tensor | None

    def __init__(
        self,
        network: dict[str, Any] | NetworkConfig,
        num_classes: int,
        beta: float = 0.196,
        label_smoothing: float = 0.0,
        head_lr: float | None = None,
        compile_backbone: bool = False,
        optimizer: OptimizerCallable = sgd,
        lr_scheduler: LRSchedulerCallable | None = None,
        class_weights: ClassWeights = None,
        lr_scheduler_interval: Interval | None = None,
        train_backbone: bool = True,
    ) -> None:
        super().__init__()
        check_class_weights(class_weights, num_classes)
        self.network = NetworkConfig.of(network)
        self.save_hyperparameters(
            {
                "network": self.network.plain(),
                "num_classes": num_classes,
                "beta": beta,
                "label_smoothing": label_smoothing,
                "head_lr": head_lr,
                "compile_backbone": compile_backbone,
                "class_weights": class_weights,
                "train_backbone": train_backbone,
            },
            logger=False,
        )
        self.num_classes = num_classes
        self.beta = beta
        self.label_smoothing = label_smoothing
        self.head_lr = head_lr
        self.compile_backbone = compile_backbone
        self.optimizer_factory = optimizer
        self.scheduler_factory = lr_scheduler
        self.class_weights = class_weights
        self.train_backbone = train_backbone
        self.register_buffer("loss_weights", None, persistent=False)
        self.scheduler_interval = lr_scheduler_interval
        self.val_accuracy = Mean()
        self.val_balanced_accuracy = BalancedAccuracy(num_classes)
        self.val_loss = Mean()
        self.test_accuracy = Mean()
        self.test_balanced_accuracy = BalancedAccuracy(num_classes)
        self.test_loss = Mean()
        self.test_dependence = Dependence()
        self.test_diversity = DiversityAtK(MAX_DIVERSITY)

    @property
    def measures(self) -> Collection[str]:
        """Losses of training, and what validation measures."""
        return {"train/loss", "train/diversity_loss", "val/accuracy", "val/balanced_accuracy", "val/loss"}

    def check(self, classifier: Classifier) -> None:
        """Refuse numbers out of range, and an optimizer or schedule that cannot be built."""
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing: in [0, 1), not {self.label_smoothing}")
        rates = (None, self.head_lr) if self.train_backbone else (self.head_lr,)
        check_optimizer(self.optimizer_factory, self.scheduler_factory, self.scheduler_interval, rates)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the classifier in plain values, so that `handful.load` reads it without this module."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[DESCRIPTION] = describe(self.model, self.network)

    def setup(self, stage: str) -> None:
        """Compile the backbone in place, which keeps the names of its parameters; note what the images are like."""
        super().setup(stage)
        inputs = TrainerData(self.trainer).inputs
        if inputs is not None and len(inputs.class_names) == self.model.num_classes:
            self.model.inputs = inputs
        if self.compile_backbone:
            self.model.backbone.compile()
        if stage == "fit" and not self.train_backbone:
            without_adapter(self.model.backbone).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation mode, of which a frozen backbone knows the second only."""
        super().train(mode)
        if not self.train_backbone and hasattr(self, "model"):
            without_adapter(self.model.backbone).eval()
        return self

    @property
    def has_adapter(self) -> bool:
        """Whether a small network behind the backbone makes the features."""
        return isinstance(self.model.backbone, AdaptedBackbone)

    def of_stored(self, features: Tensor, maps: Tensor | None) -> tuple[Tensor, Tensor]:
        """Maps `(B, F, h, w)` and features `(B, F)` of the model, from what is stored of a frozen backbone.

        Args:
            features: the backbone's, pooled.
            maps: the backbone's, `(B, F, h, w)`; where None, the features stand for maps of one position. An adapter
                needs maps.
        """
        backbone = self.model.backbone
        if isinstance(backbone, AdaptedBackbone):
            if maps is None:
                raise ValueError("an adapter needs stored maps")
            adapted = backbone.adapt(maps)
            return adapted, self.model.pool(adapted)
        return features[:, :, None, None] if maps is None else maps.float(), features

    def on_fit_start(self) -> None:
        """Weigh the classes by the training images."""
        if self.class_weights in (None, "none"):
            return
        labels = TrainerData(self.trainer).training_labels
        labels = torch.zeros(0, dtype=torch.int64) if labels is None else labels
        if self.class_weights == "balanced" and not len(labels):
            raise UserError("class_weights: the data module does not say the labels of its training images, which "
                            "balanced needs; give one number per class")
        weights = loss_weights(self.class_weights, labels, self.num_classes)
        self.loss_weights = None if weights is None else weights.to(self.device)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check images and labels while they still lie in the CPU's memory."""
        if self.trainer.predicting:
            checked_images(batch[0] if isinstance(batch, tuple | list) else batch)
            return batch
        return labelled(batch, self.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` → logits `(B, C)`."""
        return self.model(images)

    def shared_step(self, batch: tuple[Tensor, Tensor] | FeatureBatch) -> dict[str, Tensor]:
        """One forward pass, with everything that came by on the way; stored features take the backbone's place."""
        if isinstance(batch, FeatureBatch):
            labels = batch.labels
            maps, features = self.of_stored(batch.features, batch.maps)
        else:
            images, labels = batch
            maps = self.model.feature_maps(images)
            features = self.model.pool(maps)
        logits = checked_logits(self.model.head(features), len(labels), self.num_classes)
        cross_entropy = functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return {
            "loss": cross_entropy,
            "logits": logits,
            "features": features,
            "maps": maps,
            "labels": labels,
        }

    def training_step(self, batch: tuple[Tensor, Tensor] | FeatureBatch, batch_idx: int) -> dict[str, Tensor]:
        """Cross-entropy plus β · L_div on the maps that the head looks at."""
        try:
            out = self.shared_step(batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                "data.batch_size: a batch of one image leaves batch norm nothing to compare, here where the maps are "
                f"one pixel small (batch {batch_idx} of an epoch); choose another batch size or larger images"
            ) from error
        loss = out["loss"]
        if self.loss_weights is not None:
            # divided by the number of images, not by their weights: the same on one rank and on many
            loss = functional.cross_entropy(
                out["logits"], out["labels"], self.loss_weights, label_smoothing=self.label_smoothing, reduction="none"
            ).mean()
        if self.beta:
            maps, weight = self.model.head.deciding_maps(out["maps"])
            diversity = feature_diversity_loss(maps, out["logits"], weight)
            self.log("train/diversity_loss", diversity, batch_size=len(batch[1]))
            loss = loss + self.beta * diversity
        loss = loss + self.further_loss(out)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch[1]))
        return {**{name: value.detach() for name, value in out.items()}, "loss": loss}

    def further_loss(self, out: dict[str, Tensor]) -> Tensor | float:
        """Whatever else a kind of training adds to its loss; `out` is that of `shared_step`."""
        return 0.0

    def validation_step(self, batch: tuple[Tensor, Tensor] | FeatureBatch, batch_idx: int) -> dict[str, Tensor]:
        """Accuracy in per cent and loss, exact over ranks."""
        out = self.shared_step(batch)
        self._measure(out, self.val_accuracy, self.val_balanced_accuracy, self.val_loss)
        self.log("val/accuracy", self.val_accuracy, prog_bar=True, batch_size=len(batch[1]))
        self.log("val/balanced_accuracy", self.val_balanced_accuracy, batch_size=len(batch[1]))
        self.log("val/loss", self.val_loss, batch_size=len(batch[1]))
        return out

    def test_step(self, batch: tuple[Tensor, Tensor] | FeatureBatch, batch_idx: int) -> dict[str, Tensor]:
        """Accuracy, loss, diversity@k and dependence, exact over ranks."""
        out = self.shared_step(batch)
        self._measure(out, self.test_accuracy, self.test_balanced_accuracy, self.test_loss)
        maps, weight = self.model.head.deciding_maps(out["maps"])
        self.test_diversity.update(maps, out["logits"], weight)
        features, _ = self.model.head.deciding_maps(out["features"][:, :, None, None])
        self.test_dependence.update(features[:, :, 0, 0], out["logits"], weight)
        return out

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Class probabilities `(B, C)` of images, or of the images of `(images, labels)`."""
        images = batch[0] if isinstance(batch, tuple | list) else batch
        return class_probabilities(checked_logits(self(images), len(images), self.num_classes))

    def on_validation_end(self) -> None:
        """Say it where the loss is not a number."""
        self._warn_of("validation", float(self.trainer.callback_metrics.get("val/loss", 0.0)))

    def on_test_epoch_end(self) -> None:
        """Log what was measured; every rank takes part."""
        place = f"test/{self.stage}" if self.stage else "test"
        row = self.test_row()
        for name, value in row.items():
            self.log(f"{place}/{name}", value, sync_dist=False)
        self._warn_of("test", row["loss"])

    def _warn_of(self, split: str, loss: float) -> None:
        if not math.isfinite(loss):
            of = f" of the {self.stage} stage" if self.stage else ""
            rank_zero_warn(
                f"the loss{of} on the {split} images is {loss}: the network gives logits that are not finite "
                "numbers, and its accuracy means nothing; lower the learning rate"
            )

    def test_row(self) -> dict[str, float]:
        """The row of `results.json` for this classifier, from the test loop that has just run."""
        head = self.model.head
        row = {
            "accuracy": float(self.test_accuracy.compute()),
            "balanced_accuracy": float(self.test_balanced_accuracy.compute()),
            "loss": float(self.test_loss.compute()),
            "n_features": head.n_features,
            "features_per_class": head.features_per_class,
        }
        row |= {name: float(value) for name, value in self.test_diversity.compute().items()}
        row["dependence"] = float(self.test_dependence.compute())
        return row

    def on_test_epoch_start(self) -> None:
        """Start from nothing: the measures that Lightning does not reset for us."""
        for metric in (
            self.test_accuracy, self.test_balanced_accuracy, self.test_loss, self.test_diversity, self.test_dependence
        ):  # fmt: skip
            metric.reset()

    @staticmethod
    def _measure(out: dict[str, Tensor], accuracy: Mean, balanced: BalancedAccuracy, loss: Mean) -> None:
        labels, predicted = out["labels"], out["logits"].argmax(dim=1)
        accuracy.update(100 * (predicted == labels))
        balanced.update(predicted, labels)
        loss.update(functional.cross_entropy(out["logits"].float(), labels, reduction="none"))

    def on_train_epoch_start(self) -> None:
        """Nothing has gone wrong in this epoch yet."""
        self._broken = torch.zeros((), dtype=torch.bool, device=self.device)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note a loss that is not a number; one CPU process stops at once, the others before anything is stored."""
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        self._broken |= ~torch.isfinite(loss)
        # reading the flag off a GPU would wait for it, and a rank that stops alone leaves the others waiting
        if loss.device.type == "cpu" and self.trainer.world_size == 1:
            self._refuse_broken(f"step {batch_idx}")

    def on_validation_epoch_start(self) -> None:
        """Before a validation whose result could become `best.ckpt`."""
        if self.trainer.state.fn == "fit":
            self._refuse_broken("the last step", weights=True)

    def on_train_epoch_end(self) -> None:
        """Before `last.ckpt` is written."""
        self._refuse_broken("the last step", weights=True)

    def _refuse_broken(self, where: str, weights: bool = False) -> None:
        """End on every rank where any rank has met a loss, or has weights, that are not numbers.

        Raises:
            UserError: with what to do; checkpoints of earlier epochs stay as they are.
        """
        broken = getattr(self, "_broken", None)
        if broken is None:
            return
        if weights:
            for parameter in self.model.parameters():
                broken = broken | ~torch.isfinite(parameter.detach()).all()
        count = broken.float()
        if self.trainer.world_size > 1:
            count = self.trainer.strategy.reduce(count, reduce_op="sum")
        if float(count):
            raise UserError(
                f"the training loss is no longer a number (epoch {self.current_epoch}, {where}); lower the learning "
                "rate (the optimizer's lr, head_lr) or switch on trainer.gradient_clip_val"
            )

    def head_parameters(self) -> list[torch.nn.Parameter]:
        """What `head_lr` is the learning rate of."""
        return list(self.model.head.parameters())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """All trainable parameters; those of the head in a group of their own where `head_lr` is given."""
        head = [p for p in self.head_parameters() if p.requires_grad]
        rest = [p for p in self.model.backbone.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": rest}] if rest else []
        if head:
            groups.append({"params": head} if self.head_lr is None else {"params": head, "lr": self.head_lr})
        return configured(self, groups, self.optimizer_factory, self.scheduler_factory, self.scheduler_interval)
