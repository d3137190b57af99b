"""Which classes a config may name, so that a config from elsewhere runs nothing but what Handful is made of.

jsonargparse imports whatever a `class_path` names. Here it may import the classes below and nothing else: torch's
optimizers and schedules, Lightning's callbacks, loggers and parts of its Trainer, and Handful's own. A path is judged
before anything of it is imported. Packages of one's own are named by `--trust PACKAGE`, or by the environment
variable HANDFUL_TRUST; a config cannot do it.
"""

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from jsonargparse import Namespace, set_parsing_settings
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch import Callback, accelerators, loggers, plugins, profilers, strategies
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch import cli as lightning_cli
from lightning.pytorch.plugins import environments

import callbacks
import datamodules
import lightning_modules
import pipelines.phases as phases
from datamodules.base import HandfulDataModule
from handful.errors import UserError
from lightning_modules import TrainedModule
from pipelines.phases import Phase

#: Packages of the user's own, with commas between.
ENVIRONMENT = "HANDFUL_TRUST"

#: Where classes are looked for, and what they must be.
_PLACES: tuple[tuple[ModuleType, tuple[type, ...]], ...] = (
    (torch.optim, (torch.optim.Optimizer,)),
    (torch.optim.lr_scheduler, (torch.optim.lr_scheduler.LRScheduler,)),
    (lightning_cli, (lightning_cli.ReduceLROnPlateau,)),
    (lightning_callbacks, (Callback,)),
    (loggers, (loggers.Logger,)),
    (profilers, (profilers.Profiler,)),
    (strategies, (strategies.Strategy,)),
    (accelerators, (accelerators.Accelerator,)),
    (plugins, (plugins.Precision, plugins.CheckpointIO, plugins.LayerSync)),
    (environments, (ClusterEnvironment,)),
    (lightning_modules, (TrainedModule, torch.optim.lr_scheduler.LRScheduler)),
    (phases, (Phase,)),
    (datamodules, (HandfulDataModule,)),
    (callbacks, (Callback,)),
)

#: Functions that are the defaults of arguments, as they stand in the configs of phases: optimizers of our modules, and
#: the schedule of a callback of Lightning.
_FACTORIES = (
    "lightning_modules.classifier.sgd",
    "lightning_modules.class_filters.adam",
    "lightning_modules.infomax_bottleneck.adam",
    "lightning_modules.prototypical.adam",
    "lightning.pytorch.callbacks.finetuning.multiplicative",
)

#: What nobody can call a package of her own: it holds functions that run commands and load files.
_NOT_ONES_OWN = sys.stdlib_module_names | {
    "torch", "lightning", "pytorch_lightning", "jsonargparse", "numpy", "yaml", "handful", "pipelines",
}  # fmt: skip

_trusted: list[str] = []


def _classes() -> Iterator[str]:
    for module, bases in _PLACES:
        for name, value in vars(module).items():
            if inspect.isclass(value) and issubclass(value, bases) and not name.startswith("_"):
                yield f"{module.__name__}.{name}"
                yield f"{value.__module__}.{value.__qualname__}"


#: All paths of the classes and functions that a config may name.
KNOWN = frozenset((*_classes(), *_FACTORIES))

set_parsing_settings(
    import_path_denylist=["*"],
    import_path_allowlist=sorted(KNOWN),
    # a mapping that looks like a class is a mapping where no class is expected
    instantiate_subclass_spec_in_any=False,
)


def _allow(package: str) -> None:
    if not all(part.isidentifier() for part in package.split(".")):
        raise UserError(f"--trust {package}: not the name of a package")
    if package.partition(".")[0] in _NOT_ONES_OWN:
        raise UserError(f"--trust {package}: not a package of your own; what a config needs of it is permitted already")
    if package not in _trusted:
        set_parsing_settings(import_path_allowlist=[package])
        _trusted.append(package)


for _package in filter(None, os.environ.get(ENVIRONMENT, "").split(",")):
    _allow(_package.strip())


@contextmanager
def trusting(packages: Sequence[str]) -> Iterator[None]:
    """Let configs name the classes of these packages, and import them so that their classes are known by name.

    Args:
        packages: packages or modules of the user's own, such as `my_models` or `my_models.heads`.

    Raises:
        UserError: there is no such package.
    """
    before = list(_trusted)
    try:
        for package in (*before, *packages):
            _allow(package)
            try:
                importlib.import_module(package)
            except ModuleNotFoundError as error:
                raise UserError(f"--trust {package}: {error}; it must be installed or on PYTHONPATH") from error
        yield
    finally:
        for package in _trusted[len(before) :]:
            set_parsing_settings(import_path_denylist=[package])
        del _trusted[len(before) :]


def check_classes(value: Any, key: str = "") -> None:
    """Refuse a class path, or a function, anywhere in a parsed configuration that is not exactly a known one.

    jsonargparse permits what lies beneath a permitted path as well: the methods of a class, which arguments that take
    a function could name.

    Raises:
        UserError: names the key and the path.
    """
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        path = value.get("class_path")
        if isinstance(path, str) and "." in path and not permitted(path):
            raise UserError(refusal(path, key))
        for name, item in value.items():
            check_classes(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            check_classes(item, key)
    elif isinstance(value, FunctionType | MethodType | BuiltinFunctionType):
        path = f"{value.__module__}.{value.__qualname__}"
        if not permitted(path):
            raise UserError(refusal(path, key))


def permitted(path: str) -> bool:
    """Whether a config may name this path."""
    return path in KNOWN or any(path == package or path.startswith(f"{package}.") for package in _trusted)


def refusal(path: str, key: str = "") -> str:
    """Say that a config may not name a class, and what can be done."""
    where = f"{key}: " if key else ""
    close = similar_class(path)
    hint = f" (did you mean {close}?)" if close else ""
    package = path.partition(".")[0]
    own = f"; if it is your own and you trust it, add --trust {package}" if package not in _NOT_ONES_OWN else ""
    known = "the classes of torch, Lightning and Handful that a config may name"
    return f"{where}{path!r} is not one of {known}{hint}{own}"


def similar_class(path: str) -> str | None:
    """The known class whose name is most like that of a path; None where none is."""
    names: dict[str, str] = {}
    for known in sorted(KNOWN, key=len):
        names.setdefault(known.rpartition(".")[2], known)
    name = path.rpartition(".")[2]
    if name in names:
        return names[name] if names[name] != path else None
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return close[0] if close else None
