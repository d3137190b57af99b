"""How a pipeline on photographs is set up from what is known of the images and the machine."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handful.cores import usable_cores
from handful.errors import UserError
from handful.networks.backbone import registered_backbones
from handful.networks.build import build_backbone
from handful.networks.published import hub_has, published_config, weights_at_hand
from handful.text import safe_text
from pipelines.build import build_datamodule
from pipelines.trainer_arguments import on_cuda

#: Images that pass through the network in dense training, on a CPU and on a GPU, and the bounds of the epochs.
_PASSES = {False: 18_000, True: 40_000}
_FEWEST, _MOST = 3, 40
#: The backbone for a machine without a GPU, whose weights need no hub; the one for a GPU, where its weights can be had.
ON_CPU, ON_GPU = "tf_efficientnet_lite0", "resnet50.tv_in1k"


@dataclass(frozen=True)
class Facts:
    """Facts on which the automatic values depend.

    Attributes:
        values: of the config and options, as far as they are given.
        unsettled: paths that are to be settled.
        classes: C.
        images: of training, about: what is left out in reading is not known yet.
        gpu: whether the run uses one.
    """

    values: Mapping[str, Any]
    unsettled: Collection[str]
    classes: int
    images: int
    gpu: bool

    @classmethod
    def of(cls, values: Mapping[str, Any], unsettled: Collection[str]) -> "Facts":
        """Look at the data and the machine.

        Raises:
            UserError: the images cannot be found.
        """
        data = build_datamodule(values["data"])
        gpu = on_cuda(values.get("trainer") or {})
        return cls(values, unsettled, data.num_classes, data.training_size(), gpu)

    @property
    def root(self) -> str:
        """Where the images, or their labels, are."""
        data: dict[str, Any] = self.values["data"].get("init_args") or {}
        return str(data.get("labels") or data.get("root") or "")

    @property
    def described(self) -> str:
        """The facts in one line."""
        machine = "a GPU" if self.gpu else f"no GPU, {usable_cores()} cores"
        where = f"{safe_text(self.root)}: " if self.root else ""
        return f"{where}{self.classes:,} classes, about {self.images:,} images to train on; {machine}"


class Recipe:
    """Settles values one after another; each may follow from those before.

    Args:
        facts: about data, machine and what is given.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._backbone: str = facts.values["network"]["backbone"]
        self._settled: set[str] = set()
        self._epochs: dict[str, int] = {name: p["max_epochs"] for name, p in facts.values["phases"].items()}

    def settle(self, rule: str, phase: str) -> tuple[Any, str]:
        """The value and its reason.

        Args:
            rule: what is to be settled.
            phase: whose value it is; "" for those of the whole run.

        Raises:
            UserError: there is nothing to settle it by.
        """
        value, reason = {
            "name": self._name, "backbone": self._settle_backbone, "image_size": self._image_size,
            "epochs": self._settle_epochs, "n_features": self._n_features,
        }[rule](phase)  # fmt: skip
        return value, reason

    def given(self, rule: str, phase: str, value: Any) -> None:
        """Take a value that is settled already, for those that follow from it."""
        if rule == "backbone":
            self._backbone = value
        elif rule == "epochs":
            self._epochs[phase] = value
            self._settled.add(phase)

    def _name(self, _: str) -> tuple[str, str]:
        stem = Path(self.facts.root).expanduser().resolve().name.split(".")[0]
        return re.sub(r"[^\w+=-]+", "-", stem).strip("-")[:60] or "photos", "the name of the images; the run's folder"

    def _settle_backbone(self, _: str) -> tuple[str, str]:
        pretrained = self.facts.values["network"].get("pretrained")
        if self.facts.gpu and (pretrained is not True or weights_at_hand(ON_GPU) or hub_has(ON_GPU)):
            self._backbone = ON_GPU
            reason = "a GPU" + (", and its ImageNet weights are available" if pretrained is True else "")
        elif self.facts.gpu:
            self._backbone, reason = ON_CPU, f"a GPU, but the weights of {ON_GPU} are not available"
        else:
            weights = "; its ImageNet weights need no hub" if pretrained is True else ""
            self._backbone, reason = ON_CPU, f"no GPU: small enough for a few cores{weights}"
        return self._backbone, reason

    def _image_size(self, _: str) -> tuple[int, str]:
        import timm

        if self._backbone not in registered_backbones() and not timm.is_model(self._backbone.split(".")[0]):
            build_backbone({"backbone": self._backbone})  # says which names are near
        config = published_config(self._backbone)
        if config is None or not config.input_size:
            raise UserError(f"data.image_size: {self._backbone} has no published image size; give one")
        return int(config.input_size[1]), f"the size that {self._backbone} was trained at"

    def _settle_epochs(self, phase: str) -> tuple[int, str]:
        passes, images = _PASSES[self.facts.gpu], max(1, self.facts.images)
        epochs = min(max(math.ceil(passes / images), _FEWEST), _MOST)
        reason = f"{epochs * images:,} training images in all; the target is {passes:,}, in {_FEWEST} to {_MOST} epochs"
        dense = [name for name in self._epochs if self._kind(name) == "Dense"]
        if self._kind(phase) == "Finetune" and dense:
            if self._is_open(dense[0]):
                self._settle_epochs(dense[0])
            epochs, reason = math.ceil(1.5 * self._epochs[dense[0]]), "1.5 × the epochs of dense training"
        self._epochs[phase] = epochs
        self._settled.add(phase)
        return epochs, reason

    def _is_open(self, phase: str) -> bool:
        return f"phases.{phase}.max_epochs" in self.facts.unsettled and phase not in self._settled

    def _n_features(self, phase: str) -> tuple[int, str]:
        arguments: dict[str, Any] = self.facts.values["phases"][phase]["module"].get("init_args") or {}
        per_class = int(arguments.get("features_per_class") or 0)
        n_features = max(per_class, min(50, max(10, math.ceil(5 * math.sqrt(self.facts.classes)))))
        reason = "5 × √classes, from 10 to 50" if n_features > per_class else "at least features_per_class"
        if self._kind(phase) == "Assign" and n_features > self.facts.classes * per_class:
            n_features, reason = self.facts.classes * per_class, "as many as the classes use"
        each = self.facts.classes * per_class / n_features
        return n_features, f"{reason}: each feature is used by about {each:.0f} classes"

    def _kind(self, phase: str) -> str:
        return str(self.facts.values["phases"][phase]["module"]["class_path"]).rpartition(".")[2]
