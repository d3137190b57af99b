"""What the features of images depend on, as one short text."""

import hashlib
import inspect
import json

import timm
import torch
from torch import nn

from handful.networks import Classifier, NetworkConfig
from handful.networks.weights import weights_digest
from handful.version import __version__

# Raised when the same weights and images would give other features: another form of pooling, another chunk.
_VERSION = 2

#: Of the description of a network: what a backbone's maps do not depend on.
_NOT_OF_THE_MAPS = ("pretrained", "dropout")


def features_key(classifier: Classifier, network: NetworkConfig, images: str) -> str:
    """Return 32 hex digits that change with the backbone's weights, with its code and with the images.

    Args:
        classifier: its backbone's parameters and buffers count, its head does not.
        network: what the backbone was built from.
        images: a text that changes whenever the images do, their size or their normalisation.

    Example:
        >>> from handful.networks import build_classifier
        >>> config = NetworkConfig("conv4", options={"width": 4})
        >>> one, other = build_classifier(config, 2), build_classifier(config, 2)
        >>> features_key(one, config, "birds") == features_key(other, config, "birds")
        False
        >>> other.backbone.load_state_dict(one.backbone.state_dict())
        <All keys matched successfully>
        >>> features_key(one, config, "birds") == features_key(other, config, "birds")
        True
    """
    backbone = classifier.backbone
    built = {name: value for name, value in network.plain().items() if name not in _NOT_OF_THE_MAPS}
    versions = [_VERSION, __version__, torch.__version__, timm.__version__, _source(backbone)]
    digest = hashlib.sha256(json.dumps([built, versions, images], sort_keys=True).encode("utf-8", "surrogateescape"))
    digest.update(weights_digest(backbone.state_dict()).encode())
    return digest.hexdigest()[:32]


def _source(backbone: nn.Module) -> str:
    """Digest of the file that defines the backbone, which may be the user's own and change; its name where none is."""
    try:
        text = inspect.getsource(inspect.getmodule(type(backbone)) or type(backbone))
    except (OSError, TypeError):  # typed into a notebook or compiled
        text = type(backbone).__qualname__
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
