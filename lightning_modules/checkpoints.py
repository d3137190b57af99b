"""Reading and writing checkpoints that hold tensors and plain values only."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning import __version__ as lightning_version

from handful.errors import UserError
from lightning_modules.base import PhaseModule


def _known(base: type[PhaseModule] = PhaseModule) -> Iterator[type[PhaseModule]]:
    for cls in base.__subclasses__():
        yield cls
        yield from _known(cls)


def load_module(path: str | Path) -> PhaseModule:
    """Rebuild the module of a checkpoint, on the CPU and in evaluation mode; nothing is unpickled.

    Args:
        path: a `best.ckpt` or `last.ckpt` of any phase.

    Raises:
        UserError: the file is missing, not a checkpoint of ours, or of a class that is not imported.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        name, parameters, state = (checkpoint[k] for k in ("handful_module", "hyper_parameters", "state_dict"))
    except Exception as error:  # torch raises many kinds for a file it does not like
        raise UserError(f"{path}: not a checkpoint written by Handful ({type(error).__name__})") from error
    classes = {cls.__name__: cls for cls in _known()}
    if name not in classes:
        raise UserError(f"{path}: a checkpoint of {name}, a module that is not known here")
    module = classes[name](**parameters)
    module.load_state_dict(state)
    return module.eval()


def save_module(module: PhaseModule, path: Path) -> None:
    """Write a checkpoint of a module that no Trainer has trained; it loads like any other. Atomic."""
    checkpoint: dict[str, Any] = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "hparams_name": "kwargs",
        "pytorch-lightning_version": lightning_version,
        "epoch": 0,
        "global_step": 0,
        "loops": {},
    }
    module.on_save_checkpoint(checkpoint)
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(buffer.getbuffer())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
