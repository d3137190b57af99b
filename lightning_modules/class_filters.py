"""Classifiers cut down to their classes' filters ("Decomposing the Deep"), and their retraining."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from handful.errors import UserError
from handful.networks import Classifier, NetworkConfig
from handful.networks.build import build_backbone
from handful.networks.decomposed import DecomposedHead
from handful.tensor_files import read_tensors
from lightning_modules.checkpoints import load_classifier, load_module
from lightning_modules.classifier import ClassifierModule
from lightning_modules.trained_module import Input, folder_of


def adam(params: Any) -> torch.optim.Optimizer:
    """The authors' optimizer: Adam, learning rate 1e-4."""
    return torch.optim.Adam(params, lr=1e-4)


class Decompose(ClassifierModule):
    """Cut the last layer of a classifier down to its filters; also the form in which it is stored.

    As a phase of no epochs nothing is trained.

    Args:
        network: the network in plain values.
        num_classes: C; the data's.
        filters_per_class: k2; taken from the filters found where None.
        source: name of the phase whose classifier is cut.
        filters: name of the phase that found the filters.
        beta: weight of the feature-diversity loss; the authors have none.
        optimizer: factory of the optimizer; the default is the authors' Adam, 1e-4.
        **kwargs: losses and schedule, see `ClassifierModule`.

    Source: arXiv 2112.07719, the decomposed final layer.
    """

    leaves = frozenset({"a network", "a classifier", "a decomposed classifier"})

    def __init__(
        self,
        network: dict[str, Any] | NetworkConfig,
        num_classes: int,
        filters_per_class: int | None = None,
        source: str = "dense",
        filters: str = "filters",
        beta: float = 0.0,
        optimizer: OptimizerCallable = adam,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, num_classes, beta=beta, optimizer=optimizer, **kwargs)
        self.source, self.filters = source, filters
        if filters_per_class is not None:
            self.build(filters_per_class)

    def build(self, filters_per_class: int) -> None:
        """Make the classifier for k2 filters per class; its values come later."""
        backbone: Any = build_backbone(self.network)
        self.model = Classifier(backbone, DecomposedHead(backbone.num_features, self.num_classes, filters_per_class))
        self.save_hyperparameters({"filters_per_class": filters_per_class}, logger=False)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The phases of the classifier and of its filters."""
        return Input(self.source, "a classifier"), Input(self.filters, "filters")

    def take(self, earlier: Mapping[str, Path]) -> None:
        """Take the classifier and the filters."""
        source = load_classifier(folder_of(earlier, self.source) / "best.ckpt")
        path = folder_of(earlier, self.filters) / "filters.pt"
        if not path.is_file():
            raise UserError(f"{path}: the phase {self.filters!r} left no filters")
        filters: Tensor = read_tensors(path)["filters"]
        self.build(filters.shape[1])
        self.model.backbone.load_state_dict(source.model.backbone.state_dict())
        head: Any = self.model.head
        head.fill(filters, *(value.detach() for value in source.model.head.class_weights()))


class Retrain(Decompose):
    """Retrain a decomposed classifier.

    Args:
        network: the network in plain values.
        num_classes: C; the data's.
        filters_per_class: k2; taken from the decomposed stage where None.
        source: name of the phase whose decomposed classifier is retrained.
        trained: `network`: all of it, as the authors do; `last_layer`: only the k2 weights and the bias of every
            class, with the backbone and its running statistics as they are.
        **kwargs: as for `Decompose`.

    Source: arXiv 2112.07719 and its code: one epoch, batches of 64, crop and flip.
    """

    def __init__(
        self,
        network: dict[str, Any] | NetworkConfig,
        num_classes: int,
        filters_per_class: int | None = None,
        source: str = "decompose",
        trained: Literal["network", "last_layer"] = "network",
        **kwargs: Any,
    ) -> None:
        self.trained = trained
        super().__init__(network, num_classes, filters_per_class, source, **kwargs)
        self.save_hyperparameters({"trained": trained}, logger=False)

    def build(self, filters_per_class: int) -> None:
        """Make the classifier for k2 filters per class, frozen but for its last layer where that is asked for."""
        super().build(filters_per_class)
        self.model.backbone.requires_grad_(self.trained == "network")

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The phase of the decomposed classifier."""
        return (Input(self.source, "a decomposed classifier"),)

    def take(self, earlier: Mapping[str, Path]) -> None:
        """Take the decomposed classifier of the `source` phase."""
        path = folder_of(earlier, self.source) / "best.ckpt"
        decomposed = load_module(path)
        if not isinstance(decomposed, Decompose):
            raise UserError(f"{path}: holds no decomposed classifier, but {type(decomposed).__name__}")
        self.build(decomposed.hparams["filters_per_class"])
        self.model.load_state_dict(decomposed.model.state_dict())

    def on_train_epoch_start(self) -> None:
        """Keep the running statistics of a backbone that is not trained."""
        super().on_train_epoch_start()
        if self.trained == "last_layer":
            self.model.backbone.eval()
