"""Reading weights from files, without ever unpickling what a stranger wrote."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from handful.errors import UserError
from handful.networks.adapter import without_adapter
from handful.networks.classifier import Classifier
from handful.tensor_files import find_tensors, read_tensors

# How the files of others call what we call by the name on the right.
_PREFIXES = ("module.", "model.", "_orig_mod.")
# Where a training loop keeps a network beside its optimizer and counters; the first that is there.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params", "backbone")
_HEADS = ("linear.", "fc.", "classifier.", "head.fc.", "head.linear.", "head.")
# Parts of a file that our backbones do without: norms and layers of another head, auxiliary classifiers.
_UNUSED = ("head", "head_dist", "fc_norm", "AuxLogits", "aux_logits")


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file (`.pth`, `.pt`, `.ckpt`, `.safetensors`), prefixes of wrappers taken off.

    They may lie one level down (`{"model": …, "optimizer": …}`), and the file in a folder that holds no other.

    Raises:
        UserError: the file is missing, holds more than tensors and plain values, or holds no tensors.
    """
    content = _unwrapped(read_tensors(find_tensors(path), ours=False), path)
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    prefix: str | None = ""
    while prefix is not None:
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in state)), None)
    return state


def _unwrapped(content: Any, path: Path) -> Mapping[str, Any]:
    """The mapping of tensors in a file, which may lie one level down beside other things."""
    if _holds_tensors(content):
        return content
    inner = {k: v for k, v in content.items() if _holds_tensors(v)} if isinstance(content, Mapping) else {}
    name = next((name for name in _WRAPPERS if name in inner), None)
    if name is None and len(inner) > 1:
        found = ", ".join(map(str, inner))
        raise UserError(f"{path}: holds the tensors of several networks ({found}); save those of one alone")
    if not inner:
        raise UserError(f"{path}: the file holds no tensors by name")
    return inner[name] if name is not None else next(iter(inner.values()))


def _holds_tensors(content: Any) -> bool:
    return isinstance(content, Mapping) and any(
        isinstance(k, str) and isinstance(v, Tensor) and v.ndim > 0 for k, v in content.items()
    )


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensors by name, whatever file they came from; counters of batches left out.

    Example:
        >>> weights_digest({"b": torch.zeros(1), "a": torch.ones(2)})[:8]
        'd25393f0'
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.endswith("num_batches_tracked"):
            continue
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.view(torch.uint8).numpy().tobytes() if value.ndim else value.numpy().tobytes())
    return digest.hexdigest()


def name_of_weights(path: str | Path) -> str:
    """The name of a file of weights with the first 16 hex digits of the backbone's `weights_digest`.

    Raises:
        UserError: see `read_state`.
    """
    path = find_tensors(path)
    backbone, _ = _split(read_state(path))
    inner = {name.removeprefix("net."): value for name, value in backbone.items()}
    return f"{path.name}, {weights_digest(inner)[:16]}"


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
        path: the file, or the folder that holds it. A mapping of tensors inside it (`state_dict`, `model`), a `module.`
            or `model.` prefix and the usual names of a last layer (`fc`, `linear`, `classifier`, `head.fc`) are
            understood.
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
    path = find_tensors(path)
    backbone_state, head_state = _split(read_state(path))
    backbone = classifier.backbone
    if not any(key.startswith("inner.") for key in backbone_state) and backbone is not without_adapter(backbone):
        # of the backbone alone: adapter and last layer start fresh
        backbone, head_state = without_adapter(backbone), {}
    # the tensors of a timm network live one level down
    if not any(key.startswith("net.") for key in backbone_state) and hasattr(backbone, "net"):
        backbone_state = {f"net.{key}": value for key, value in backbone_state.items()}
    _check(backbone, backbone_state, path)
    fits = bool(head_state) and all(
        key in head_state and head_state[key].shape == value.shape
        for key, value in classifier.head.state_dict().items()
    )
    if head and not fits:
        raise UserError(f"{path}: the file has no last layer for {classifier.num_classes} classes")
    backbone.load_state_dict(backbone_state, strict=False)
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
