"""What the features of images depend on, as one short text."""

import hashlib
import inspect
import json
from typing import Any

import timm
import torch
from torch import nn

from handful.networks import Classifier, NetworkConfig
from handful.networks.adapter import without_adapter
from handful.networks.weights import weights_digest
from handful.version import __version__

# Raised when the same weights and images would give other features: another form of pooling, another chunk.
_VERSION = 3

_CPU = torch.device("cpu")

#: Of the description of a network: what a backbone's maps do not depend on.
_NOT_OF_THE_MAPS = ("pretrained", "dropout", "adapter")


def features_key(
    classifier: Classifier, network: NetworkConfig, images: str, device: torch.device = _CPU
) -> str:
    """Return 32 hex digits that change with the backbone's weights, its code, the images and how numbers are rounded.

    Args:
        classifier: its backbone's parameters and buffers count, its adapter and its head do not.
        network: what the backbone was built from.
        images: a text that changes whenever the images do, their size or their normalisation.
        device: where the features are computed; another kind of it, or another precision of products there (TF32,
            bf16), rounds otherwise.

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
    backbone = without_adapter(classifier.backbone)
    built = {name: value for name, value in network.plain().items() if name not in _NOT_OF_THE_MAPS}
    versions = [_VERSION, __version__, torch.__version__, timm.__version__, _source(backbone)]
    content = [built, versions, images, _rounding(device)]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8", "surrogateescape"))
    digest.update(weights_digest(backbone.state_dict()).encode())
    return digest.hexdigest()[:32]


def _rounding(device: torch.device) -> list[Any]:
    """What float32 results depend on beside their inputs: the device, and how it may shorten products."""
    if device.type != "cuda":
        return [device.type, _precision(torch.backends.mkldnn)]
    cudnn = torch.backends.cudnn
    name = torch.cuda.get_device_name(device) if torch.cuda.is_available() else ""
    return [device.type, name, cudnn.version(), cudnn.deterministic, _precision(cudnn), _precision(torch.backends.cuda)]


def _precision(backend: Any) -> list[str]:
    """How a backend multiplies float32, in convolutions and matrix products."""
    kinds: list[Any] = [getattr(backend, name, None) for name in ("conv", "matmul")]
    found = [str(kind.fp32_precision) for kind in kinds if hasattr(kind, "fp32_precision")]
    found = ["ieee" if precision == "none" else precision for precision in found]  # where nothing was set
    # torch before 2.9 knows one precision for all, and one switch of cuDNN
    return found or [torch.get_float32_matmul_precision(), str(getattr(backend, "allow_tf32", ""))]


def _source(backbone: nn.Module) -> str:
    """Digest of the file that defines the backbone, which may be the user's own and change; its name where none is."""
    try:
        text = inspect.getsource(inspect.getmodule(type(backbone)) or type(backbone))
    except (OSError, TypeError):  # typed into a notebook or compiled
        text = type(backbone).__qualname__
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
