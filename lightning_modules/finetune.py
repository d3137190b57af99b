"""The finetuned stage: the sparse layer stays, the features adapt to it."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from handful.errors import UserError
from handful.losses import feature_grounding_loss
from handful.networks import Classifier, NetworkConfig, SparseHead, build_head
from handful.networks.build import build_backbone
from lightning_modules.checkpoints import load_module
from lightning_modules.classifier import ClassifierModule
from lightning_modules.trained_module import Input, folder_of


class Finetune(ClassifierModule):
    """Finetuning under a frozen sparse layer; also the form in which the sparse stage is stored.

    Args:
        network: the network in plain values.
        num_classes: C; the data's.
        n_features: S, the number of selected features; taken from the sparse stage where None.
        source: name of the phase whose sparse classifier is finetuned.
        init_from: a checkpoint of a sparse classifier, where there is no earlier phase.
        dropout: probability of dropping a selected feature (0.1 in the reference).
        train_normalisation: whether the head's `mean` and `std` are trained, as the reference does; a binary head's
            never are.
        grounding: weight of the feature grounding loss (3 in CHiQPM).
        grounding_epochs: the epochs from the first on in which it counts (30 in CHiQPM); all where None.
        head: kind and options of the head, taken from the `source` phase: `{"kind": "binary", "relu": True}`.
        **kwargs: losses and optimizer, see `ClassifierModule`; L_div looks at the selected maps, and `head_lr` is that
            of `mean` and `std`.

    Source: "Take 5" (arXiv 2303.13166), step 3: W and b frozen, the backbone trained; CHiQPM (NeurIPS 2025).
    """

    shared = frozenset({"network", "num_classes", "init_from"})
    leaves = frozenset({"a network", "a classifier", "a sparse classifier"})

    def __init__(
        self,
        network: dict[str, Any] | NetworkConfig,
        num_classes: int,
        n_features: int | None = None,
        source: str = "sparsify",
        init_from: str | None = None,
        dropout: float = 0.1,
        train_normalisation: bool = True,
        grounding: float = 0.0,
        grounding_epochs: int | None = None,
        head: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, num_classes, **kwargs)
        self.save_hyperparameters({"dropout": dropout, "train_normalisation": train_normalisation}, logger=False)
        self.source = source
        self.init_from = init_from
        self.grounding, self.grounding_epochs = grounding, grounding_epochs
        self.head_options: dict[str, Any] = dict(head or {"kind": "sparse"})
        if n_features is not None:
            self.build(n_features)

    def build(self, n_features: int) -> None:
        """Make the classifier for `n_features` selected features; its values come later."""
        backbone: Any = build_backbone(self.network)
        options = {"n_selected": n_features, "dropout": self.hparams["dropout"]}
        if self.head_options["kind"] != "binary":
            options["train_normalisation"] = self.hparams["train_normalisation"]
        head = build_head(
            {"num_features": backbone.num_features, "num_classes": self.num_classes, **options, **self.head_options}
        )
        self.model = Classifier(backbone, head)
        self.save_hyperparameters({"n_features": n_features, "head": self.head_options}, logger=False)

    def check(self, classifier: Classifier) -> None:
        """Refuse a finetuning that trains nothing."""
        super().check(classifier)
        if self.grounding < 0 or (self.grounding_epochs or 0) < 0:
            raise UserError("grounding, grounding_epochs: at least 0")
        if not (self.train_backbone or self.hparams["train_normalisation"] or self.network.adapter is not None):
            raise UserError(
                "train_backbone and train_normalisation are both false: nothing is left to train, since the sparse "
                "layer stays; leave this phase out"
            )

    def take(self, earlier: Mapping[str, Path]) -> None:
        """Take the sparse classifier of the `source` phase, or that of `init_from`."""
        path = Path(self.init_from) if self.init_from is not None else folder_of(earlier, self.source) / "best.ckpt"
        sparse = load_module(path)
        if not isinstance(sparse, Finetune):
            raise UserError(f"{path}: holds no sparse classifier, but {type(sparse).__name__}")
        if (sparse.network.backbone, sparse.num_classes) != (self.network.backbone, self.num_classes):
            raise UserError(
                f"{path}: a {sparse.network.backbone} for {sparse.num_classes} classes; here is a "
                f"{self.network.backbone} for {self.num_classes}"
            )
        self.head_options = sparse.head_options
        if self.grounding and self.head_options["kind"] != "binary":
            raise UserError(f"grounding: of a binary head only; the phase {self.source!r} leaves a "
                            f"{self.head_options['kind']} one")  # fmt: skip
        self.build(sparse.hparams["n_features"])
        trained = any(p.requires_grad for p in self.model.head.parameters())
        if not (self.train_backbone or self.has_adapter or trained):
            raise UserError("train_backbone is false and a binary head has nothing to train; leave this phase out")
        try:
            self.model.load_state_dict(sparse.model.state_dict())
        except RuntimeError as error:
            first = str(error).splitlines()[1:2] or [str(error)]
            raise UserError(f"{path}: of another {self.network.backbone} than here ({first[0].strip()})") from error

    def further_loss(self, out: dict[str, Tensor]) -> Tensor | float:
        """The feature grounding loss, in its epochs."""
        head = self.model.head
        if not self.grounding or not isinstance(head, SparseHead):
            return 0.0
        if self.grounding_epochs is not None and self.current_epoch >= self.grounding_epochs:
            return 0.0
        loss = feature_grounding_loss(head.standardise(out["features"]), head.weight, out["labels"])
        self.log("train/grounding_loss", loss, batch_size=len(out["labels"]))
        return self.grounding * loss

    @property
    def measures(self) -> Collection[str]:
        """With the grounding loss, where it counts."""
        return {*super().measures, *(("train/grounding_loss",) if self.grounding else ())}

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The phase of the sparse stage, unless `init_from` stands in."""
        return () if self.init_from is not None else (Input(self.source, "a sparse classifier"),)
