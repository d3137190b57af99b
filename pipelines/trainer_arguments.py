"""Trainer arguments of a pipeline: of the right kind, and for hardware that is there."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.utilities import rank_zero_warn

from handful.cores import usable_cores
from handful.errors import UserError, did_you_mean
from pipelines.option_parser import OneSentenceParser
from pipelines.process_state import process_kept

#: What a Trainer raises on an argument that it does not take.
REFUSALS = (MisconfigurationException, TypeError, ValueError, ArithmeticError, RuntimeError, LookupError, ImportError)

_PARAMETERS = frozenset(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}

#: Arguments that must be at least one, which the Trainer finds out by dividing by them.
_POSITIVE = ("accumulate_grad_batches", "check_val_every_n_epoch", "num_nodes", "log_every_n_steps")


def check_values(key: str, arguments: Mapping[str, Any]) -> None:
    """Refuse a value that a Trainer argument cannot be, and name the argument.

    Args:
        key: of the mapping in the config.
        arguments: of the Trainer.

    Raises:
        UserError: names the argument.
    """
    # another machine may have what this one lacks
    if _is_missing(arguments.get("accelerator")):
        arguments = {k: v for k, v in arguments.items() if k not in ("accelerator", "devices", "precision", "strategy")}
    with_hardware = {name: arguments[name] for name in ("accelerator", "devices") if name in arguments}
    for name, value in arguments.items():
        if name == "max_time" and isinstance(value, Mapping):  # days, hours, minutes, seconds
            pass
        elif isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(x, dict | list) for x in value)):
            raise UserError(f"{key}.{name}: a number or a name is needed, not a mapping")
        if name in _POSITIVE and isinstance(value, int) and value < 1:
            raise UserError(f"{key}.{name}: at least 1, not {value}")
        if name not in _PARAMETERS:
            hint = did_you_mean(name, _PARAMETERS)
            raise UserError(f"{key}.{name}: not an argument of the Trainer that a pipeline can set{hint}")
        _check_kind(f"{key}.{name}", name, value)
    if not arguments:
        return
    try:
        _try(arguments)  # one Trainer of all of them takes a tenth of the time of one of each
    except REFUSALS:
        for name, value in arguments.items():
            before = {} if name == "accelerator" else {k: v for k, v in with_hardware.items() if k != name}
            try:
                _try({**before, name: value})
            except REFUSALS as error:
                said = " ".join(str(error).split())
                raise UserError(f"{key}.{name}: the Trainer refuses {value!r}: {said}") from error


def _try(arguments: Mapping[str, Any]) -> None:
    """Build a Trainer, which sets switches for all of torch, and put these back."""
    with process_kept():
        pl.Trainer(**{"logger": False, "enable_checkpointing": False, **arguments})


def given_values(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values among a Trainer's arguments that differ from its defaults."""
    defaults = inspect.signature(pl.Trainer.__init__).parameters
    return {
        name: value
        for name, value in arguments.items()
        if isinstance(value, bool | int | float | str | list)
        and not (isinstance(value, list) and not all(isinstance(item, int | str) for item in value))
        and value != getattr(defaults.get(name), "default", None)
        and name not in ("default_root_dir", "logger", "callbacks", "fast_dev_run")
    }


def _check_kind(key: str, name: str, value: object) -> None:
    parser = OneSentenceParser()
    parser.add_class_arguments(pl.Trainer, "trainer", skip=set(_PARAMETERS) - {name})
    try:
        parser.parse_object({"trainer": {name: value}})
    except UserError as error:
        raise UserError(f"{key}: {str(error).partition(': ')[2] or error}") from error


def on_this_machine(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for the accelerators that there are: on the CPU, in one process, where a GPU is asked for in vain.

    Raises:
        UserError: several machines are asked for, and this one has none of the accelerator; or far more processes
            than cores.
    """
    wanted = arguments.get("accelerator")
    if not _is_missing(wanted):
        _check_share_of_cores(arguments)
        return dict(arguments)
    if arguments.get("num_nodes", 1) not in (1, "1"):
        raise UserError(f"trainer.accelerator: there is no {wanted} on this machine, one of {arguments['num_nodes']}")
    rank_zero_warn(f"trainer.accelerator: there is no {wanted} on this machine; running on the CPU, in one process")
    return {**arguments, "accelerator": "cpu", "devices": 1}


def on_cuda(arguments: Mapping[str, Any]) -> bool:
    """Whether a Trainer with these arguments runs on CUDA devices."""
    return arguments.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def _check_share_of_cores(arguments: Mapping[str, Any]) -> None:
    """Refuse far more processes on the CPU than cores: each holds a network and loads images of its own."""
    devices, cores = arguments.get("devices", "auto"), usable_cores()
    on_cpu = arguments.get("accelerator", "auto") == "cpu" or not _available("gpu")
    most = max(16, 4 * cores)
    if on_cpu and str(devices).isdecimal() and int(devices) > most:
        raise UserError(f"trainer.devices: {devices} processes on {cores} cores; take at most {most}")


def _is_missing(accelerator: object) -> bool:
    """Whether this is the name of an accelerator that this machine does not have."""
    return isinstance(accelerator, str) and accelerator in _names() and not _available(accelerator)


def _names() -> Iterator[str]:
    yield "gpu"
    yield from AcceleratorRegistry.available_accelerators()


def _available(name: str) -> bool:
    names = ("cuda", "mps") if name == "gpu" else (name,)
    return any(AcceleratorRegistry[n]["accelerator"].is_available() for n in names if n in AcceleratorRegistry)
