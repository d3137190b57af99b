"""Reading weights from files, without ever unpickling what a stranger wrote."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from handful.errors import UserError
from handful.networks.classifier import Classifier

# How the files of others call what we call by the name on the right.
_PREFIXES = ("module.", "model.", "_orig_mod.")
_HEADS = ("linear.", "fc.", "classifier.", "head.fc.", "head.linear.", "head.")
# Parts of a file that our backbones do without: norms and layers of another head, auxiliary classifiers.
_UNUSED = ("head", "head_dist", "fc_norm", "AuxLogits", "aux_logits")


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file (`.pth`, `.pt`, `.ckpt`, `.safetensors`), prefixes of wrappers taken off.

    Raises:
        UserError: the file is missing, holds more than tensors and plain values, or holds no tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file of weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds
        raise UserError(
            f"{path}: not a readable file of weights ({type(error).__name__}); files that hold more than tensors "
            "and plain values are refused"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not state:
        raise UserError(f"{path}: the file holds no tensors by name")
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensors by name, whatever file they came from; counters of batches and the classifier left out.

    Example:
        >>> weights_digest({"b": torch.zeros(1), "a": torch.ones(2)})[:8]
        'd25393f0'
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.endswith("num_batches_tracked") or name in ("classifier.weight", "classifier.bias"):
            continue
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.view(torch.uint8).numpy().tobytes() if value.ndim else value.numpy().tobytes())
    return digest.hexdigest()


def name_of_weights(path: str | Path) -> str:
    """The name of a file of weights with the first 16 hex digits of their `weights_digest`.

    Raises:
        UserError: see `read_state`.
    """
    return f"{Path(path).name}, {weights_digest(read_state(Path(path)))[:16]}"


def _split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Backbone and head of a state dictionary, in our names."""
    backbone, head = {}, {}
    ours = any(key.startswith("backbone.") for key in state)
    for key, value in state.items():
        prefix = next((p for p in _HEADS if key in (p + "weight", p + "bias")), None)
        if ours and key.startswith("backbone."):
            backbone[key.removeprefix("backbone.")] = value
        elif prefix is not None:
            head["linear." + key.removeprefix(prefix)] = value
        elif not ours:
            backbone[key] = value
    return backbone, head


def load_weights(classifier: Classifier, path: str | Path, head: bool | None = None) -> bool:
    """Start a classifier with a dense head from a file of weights: a public checkpoint or one of ours.

    Args:
        classifier: gets the weights; untouched where the file does not fit.
        path: the file. Its `state_dict`, a `module.` or `model.` prefix and the usual names of a last layer
            (`fc`, `linear`, `classifier`, `head.fc`) are understood.
        head: whether the last layer is taken too; by default where the file has one for as many classes.

    Returns:
        Whether the last layer was taken.

    Raises:
        UserError: the file is of another architecture; the sentence names the first tensor that differs.

    Example:
        >>> import tempfile
        >>> from handful.networks import build_classifier
        >>> network = {"backbone": "conv4", "options": {"width": 4}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(build_classifier(network, 3).state_dict(), f"{folder}/weights.pth")
        ...     load_weights(build_classifier(network, 3), f"{folder}/weights.pth")
        True
    """
    path = Path(path)
    backbone_state, head_state = _split(read_state(path))
    # the tensors of a timm network live one level down
    if not any(key.startswith("net.") for key in backbone_state) and hasattr(classifier.backbone, "net"):
        backbone_state = {f"net.{key}": value for key, value in backbone_state.items()}
    _check(classifier.backbone, backbone_state, path)
    fits = bool(head_state) and all(
        key in head_state and head_state[key].shape == value.shape
        for key, value in classifier.head.state_dict().items()
    )
    if head and not fits:
        raise UserError(f"{path}: the file has no last layer for {classifier.num_classes} classes")
    classifier.backbone.load_state_dict(backbone_state, strict=False)
    if fits and head is not False:
        classifier.head.load_state_dict(head_state)
        return True
    return False


def _check(backbone: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Every tensor of the backbone must be in the file, with its shape, and the file has no others."""
    for key, value in backbone.state_dict().items():
        if key.endswith("num_batches_tracked"):  # older checkpoints lack the counter
            continue
        if key not in state:
            raise UserError(f"{path}: a checkpoint of another architecture; it lacks {key!r}")
        if state[key].shape != value.shape:
            raise UserError(
                f"{path}: a checkpoint of another architecture; {key!r} is {tuple(state[key].shape)} there and "
                f"{tuple(value.shape)} here"
            )
    for key in state:
        if key not in backbone.state_dict() and key.removeprefix("net.").split(".")[0] not in _UNUSED:
            raise UserError(f"{path}: a checkpoint of another architecture; it has {key!r}, which the network lacks")
