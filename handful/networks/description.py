"""A classifier in plain values, from which it can be rebuilt: its network, its head, and what its images are like.

A checkpoint of a classifier holds this description under `KEY` beside its tensors, so that it can be read without the
code that trained it.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from handful.errors import UserError
from handful.images.model_inputs import Inputs
from handful.networks.backbone import num_features
from handful.networks.build import NetworkConfig, build_backbone
from handful.networks.classifier import Classifier
from handful.networks.head import build_head

#: Where a checkpoint keeps the description.
KEY = "handful_classifier"

#: Raised when a description of before can no longer be read.
VERSION = 1

#: Classes of earlier checkpoints, without a description, by the head that their arguments describe.
ALIASES = {"Dense": "dense", "Finetune": "sparse", "Decompose": "decomposed", "Retrain": "decomposed"}


def describe(classifier: Classifier, network: NetworkConfig) -> dict[str, Any]:
    """Describe a classifier in plain values.

    Args:
        classifier: its head and its `inputs` are described as they are.
        network: what its backbone was built from.
    """
    inputs = classifier.inputs
    return {
        "version": VERSION,
        "network": network.plain(),
        "head": classifier.head.describe(),
        "inputs": None if inputs is None else _plain(inputs),
    }


def _plain(inputs: Inputs) -> dict[str, Any]:
    values = asdict(inputs)
    return {
        "class_names": [str(name) for name in values["class_names"]],
        "image_size": int(values["image_size"]),
        "mean": [float(value) for value in values["mean"]],
        "std": [float(value) for value in values["std"]],
        "fit": str(values["fit"]),
        **({} if values["white"] is None else {"white": float(values["white"])}),
    }


def rebuild(description: Mapping[str, Any]) -> Classifier:
    """A classifier of the described shape, in evaluation mode; its weights are those of a new one.

    Raises:
        UserError: the description is none, of a later version, or names what is not there.
    """
    if not isinstance(description, Mapping) or not {"version", "network", "head"} <= set(description):
        raise UserError("not the description of a classifier")
    if description["version"] != VERSION:
        raise UserError(f"a description of version {description['version']}; this Handful reads version {VERSION}")
    # weights come from the state: nothing else is ever read
    if not isinstance(description["network"], Mapping):
        raise UserError("not the description of a classifier")
    network = NetworkConfig.of({**description["network"], "pretrained": False})
    classifier = Classifier(build_backbone(network), build_head(description["head"]))
    classifier.network = network
    classifier.inputs = inputs_of(description)
    if classifier.inputs is not None and len(classifier.inputs.class_names) != classifier.num_classes:
        raise UserError(
            f"a description with {len(classifier.inputs.class_names)} class names for {classifier.num_classes} classes"
        )
    return classifier.eval()


def inputs_of(description: Mapping[str, Any]) -> Inputs | None:
    """What the described classifier's images are like; None where the description does not say it.

    Raises:
        UserError: it says something else.
    """
    inputs = description.get("inputs")
    if inputs is None:
        return None
    if not isinstance(inputs, Mapping) or not {"class_names", "image_size", "mean", "std"} <= set(inputs):
        raise UserError("a description whose inputs are others than expected")
    return Inputs.from_record(inputs, "a description of a classifier")


def description_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The description that a checkpoint holds, or that an earlier checkpoint's class and arguments amount to.

    Raises:
        UserError: the checkpoint is not that of a classifier.
    """
    if KEY in checkpoint:
        return dict(checkpoint[KEY])
    name, arguments = checkpoint.get("handful_module"), checkpoint.get("hyper_parameters")
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise UserError("not a checkpoint written by Handful")
    if name not in ALIASES:
        raise UserError(f"holds {name}, not a classifier")
    try:
        network = NetworkConfig.of(arguments["network"])
        head = {"kind": ALIASES[name], "num_classes": arguments["num_classes"]}
        if name == "Dense":
            head["dropout"] = network.dropout
        elif name == "Finetune":
            head |= {"n_selected": arguments["n_features"], "dropout": arguments.get("dropout", 0.1)}
            head["train_normalisation"] = arguments.get("train_normalisation", True)
        else:
            head["filters_per_class"] = arguments["filters_per_class"]
    except KeyError as error:
        raise UserError(f"a checkpoint of {name} without {error}") from error
    head["num_features"] = num_features(build_backbone(network))
    return {"version": VERSION, "network": network.plain(), "head": head, "inputs": None}
