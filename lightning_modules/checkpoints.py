"""Reading and writing checkpoints that hold tensors and plain values only."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import __version__ as lightning_version
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from handful.atomic import atomic
from handful.errors import UserError
from handful.networks.description import KEY as DESCRIPTION
from handful.networks.description import inputs_of
from handful.networks.restored import restored
from handful.tensor_files import read_tensors, take_held
from lightning_modules.classifier import ClassifierModule
from lightning_modules.trained_module import TrainedModule


def load_module(path: str | Path) -> TrainedModule:
    """Rebuild the module of a checkpoint, on the CPU and in evaluation mode; nothing is unpickled.

    Args:
        path: a `best.ckpt` or `last.ckpt` of any phase.

    Raises:
        UserError: the file is missing, not a checkpoint of ours, or of a class that is not imported.
    """
    path = Path(path)
    checkpoint = read_tensors(path)
    try:
        name, parameters, state = (checkpoint[k] for k in ("handful_module", "hyper_parameters", "state_dict"))
    except (TypeError, LookupError) as error:
        raise UserError(f"{path}: not a checkpoint written by Handful ({type(error).__name__})") from error
    if not isinstance(name, str) or name not in TrainedModule.registered:
        raise UserError(f"{path}: a checkpoint of {name!s:.80}, a module that is not known here")
    if not isinstance(parameters, Mapping) or not all(isinstance(key, str) for key in parameters):
        raise UserError(f"{path}: not a checkpoint written by Handful (hyper_parameters)")
    try:
        module = restored(lambda: TrainedModule.registered[name](**parameters), state)
        description = checkpoint.get(DESCRIPTION, {})
        inputs = inputs_of(description) if isinstance(description, Mapping) else None
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if inputs is not None and isinstance(module, ClassifierModule):
        module.model.inputs = inputs
    return module.eval()


def load_classifier(path: str | Path) -> ClassifierModule:
    """The module of a checkpoint, which must hold a classifier; see `load_module`.

    Raises:
        UserError: it holds none.
    """
    module = load_module(path)
    if not isinstance(module, ClassifierModule):
        raise UserError(f"{path}: holds {type(module).__name__}, not a classifier")
    return module


def check_weights(path: str | Path, module: TrainedModule) -> None:
    """Refuse a checkpoint that is not there, cannot be read, or does not fit the module.

    Raises:
        UserError: with the file and the first thing that does not fit.
    """
    path = Path(path)
    checkpoint = read_tensors(path)
    try:
        shapes = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
    except (TypeError, LookupError, AttributeError) as error:
        raise UserError(f"{path}: not a checkpoint written by Handful ({type(error).__name__})") from error
    for name, value in module.state_dict().items():
        if shapes.get(name) != tuple(value.shape):
            there = f"has shape {shapes[name]}" if name in shapes else "is missing"
            raise UserError(
                f"{path}: a checkpoint of another architecture ({name} {there}, here {tuple(value.shape)})"
            )


def save_module(module: TrainedModule, path: Path) -> None:
    """Write a checkpoint of a module that no Trainer has trained; it loads like any other. Atomic."""
    checkpoint: dict[str, Any] = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "hparams_name": "kwargs",
        "pytorch-lightning_version": lightning_version,
        "epoch": 0,
        "global_step": 0,
    }
    module.on_save_checkpoint(checkpoint)
    write_tensors(checkpoint, path)


def write_tensors(content: Any, path: Path) -> None:
    """`torch.save` such that the file is whole or the one before it, also where the disk is full.

    Raises:
        OSError: the file cannot be written; names it.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic(path) as file:
        file.write(buffer.getbuffer())


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, written by `write_tensors`: its own are moved from another file system's /tmp."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `last.ckpt` or `best.ckpt`; a run cut short leaves the one before."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_tensors(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint, where its content is not held already."""
        held = take_held(Path(path))
        return held if held is not None else super().load_checkpoint(path, *args, **kwargs)
