"""How a pipeline on photographs is set up from what is known of the images and the machine."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from handful.cores import usable_cores
from handful.errors import UserError
from handful.images.clutter import printable
from handful.networks.published import hub_answers, published_config, weights_at_hand
from pipelines.build import build_datamodule

#: Images that pass through the network in dense training, on a CPU and on a GPU, and the bounds of the epochs.
_PASSES = {False: 18_000, True: 40_000}
_FEWEST, _MOST = 3, 40
#: The backbone for a machine without a GPU, whose weights need no hub; the one for a GPU, where its weights can be had.
ON_CPU, ON_GPU = "tf_efficientnet_lite0", "resnet50.tv_in1k"


@dataclass(frozen=True)
class Facts:
    """What the choices follow from.

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
        accelerator = (values.get("trainer") or {}).get("accelerator", "auto")
        gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        return cls(values, unsettled, data.num_classes, data.training_size(), gpu)

    @property
    def root(self) -> str:
        """Where the images are."""
        data: dict[str, Any] = self.values["data"].get("init_args") or {}
        return str(data.get("root") or data.get("labels") or "")

    @property
    def described(self) -> str:
        """The facts in one line."""
        machine = "a GPU" if self.gpu else f"no GPU, {usable_cores()} cores"
        where = f"{printable(self.root)}: " if self.root else ""
        return f"{where}{self.classes:,} classes, about {self.images:,} images to train on; {machine}"


class Recipe:
    """Settles values one after another; each may follow from those before.

    Args:
        facts: about data, machine and what is given.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._backbone: str = facts.values["network"]["backbone"]
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

    def _name(self, _: str) -> tuple[str, str]:
        stem = Path(self.facts.root).expanduser().resolve().name.split(".")[0]
        return re.sub(r"[^\w+=-]+", "-", stem).strip("-")[:60] or "photos", "the name of the images; the run's folder"

    def _settle_backbone(self, _: str) -> tuple[str, str]:
        pretrained = self.facts.values["network"].get("pretrained")
        if self.facts.gpu and (pretrained is not True or weights_at_hand(ON_GPU) or hub_answers()):
            self._backbone, reason = ON_GPU, "a GPU, and its ImageNet weights can be had"
        elif self.facts.gpu:
            self._backbone, reason = ON_CPU, f"a GPU, but the weights of {ON_GPU} cannot be had; these can"
        else:
            self._backbone, reason = ON_CPU, "no GPU: small enough for a few cores; its ImageNet weights need no hub"
        return self._backbone, reason

    def _image_size(self, _: str) -> tuple[int, str]:
        config = published_config(self._backbone)
        if config is None or not config.input_size:
            raise UserError(f"data.image_size: nothing is known of the size of {self._backbone}; give one")
        return int(config.input_size[1]), f"the size that {self._backbone} was trained at"

    def _settle_epochs(self, phase: str) -> tuple[int, str]:
        passes = _PASSES[self.facts.gpu]
        epochs = min(max(math.ceil(passes / max(1, self.facts.images)), _FEWEST), _MOST)
        reason = f"about {passes:,} images pass, in {_FEWEST} to {_MOST} epochs"
        dense = [name for name in self._epochs if self._kind(name) == "Dense"]
        if self._kind(phase) == "Finetune" and dense:
            epochs, reason = self._epochs[dense[0]], "as many as of dense training"
        self._epochs[phase] = epochs
        return epochs, reason

    def _n_features(self, _: str) -> tuple[int, str]:
        classes = self.facts.classes
        n_features = min(50, max(10, math.ceil(5 * math.sqrt(classes))))
        return n_features, "5 × √classes, from 10 to 50: with 5 per class, each feature serves about √classes of them"

    def _kind(self, phase: str) -> str:
        return str(self.facts.values["phases"][phase]["module"]["class_path"]).rpartition(".")[2]
