"""From specs in plain values to objects, as jsonargparse builds them."""

import copy
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Any

import lightning.pytorch as pl
import torch
from jsonargparse import ArgumentParser, Namespace

from datamodules.base import HandfulDataModule
from handful.errors import UserError, did_you_mean
from lightning_modules import TrainedModule
from pipelines.config import Spec
from pipelines.errors import user_error_in
from pipelines.option_parser import OneSentenceParser
from pipelines.permitted_classes import permitted, refusal
from pipelines.phases import Phase, Train

#: A `ValueError` of these is a mistake of ours.
OWN_PACKAGES = ("callbacks", "datamodules", "handful", "lightning_modules", "pipelines")


def _instantiate(base: type, spec: Spec, key: str, extra: dict[str, Any] | None = None) -> Any:
    """Build `spec`, a sub-class of `base`; `extra` arguments go before those of the spec."""
    extra = extra or {}
    if not isinstance(spec, dict):
        raise UserError(f"{key}: a class with its arguments is needed, class_path and init_args, not {spec!r:.60}")
    parser: ArgumentParser = OneSentenceParser()
    required = {name for name, value in extra.items() if value is not None}
    parser.add_subclass_arguments(base, key, required=True)
    spec = copy.deepcopy(spec)
    spec["init_args"] = {**(spec.get("init_args") or {}), **{name: extra[name] for name in required}}
    try:
        return parser.instantiate(parser.parse_object({key: spec}))[key]
    except ValueError as error:
        known = user_error_in(error)
        cause = _innermost(error)
        if known is None and _raised_by_us(cause):
            raise
        if known is None:  # a class of Lightning or of the user's own
            why = " ".join(str(cause).split())
            raise UserError(f"{key}: {spec.get('class_path')} refuses its arguments: {why}") from error
        if known is error:
            raise
        sentence = str(known)
        raise UserError(sentence if sentence.startswith(key) else f"{key}: {sentence}") from error


def _innermost(error: BaseException) -> BaseException:
    """What an error was raised from, at last."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return error


def _raised_by_us(error: BaseException) -> bool:
    """Whether an error comes from our own code: then it is a mistake of ours, not of the config."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] in OWN_PACKAGES and module != __name__


def build_phase(spec: Spec, phase: str, shared: Mapping[str, Any]) -> Phase:
    """The phase that a spec names, or the training of the module that it names.

    Args:
        spec: a phase or a module, with its arguments.
        phase: name of the phase, for the sentence.
        shared: values that a pipeline gives to the modules that take them: network, num_classes, init_from.

    Raises:
        UserError: the class or an argument is unknown.
    """
    cls = phase_class(spec, f"phases.{phase}.module")
    if issubclass(cls, TrainedModule):
        given = {name: value for name, value in shared.items() if name in cls.shared}
        module: TrainedModule = _instantiate(TrainedModule, spec, "module", given)
        return Train(module)
    recipe: Phase = _instantiate(Phase, spec, "module")
    return recipe


def phase_class(spec: Spec, key: str) -> type[Phase] | type[TrainedModule]:
    """The class of a phase or of a module that a spec names.

    Raises:
        UserError: there is no such class, or it is none of a phase.
    """
    path = spec.get("class_path")
    if not isinstance(path, str):
        raise UserError(f"{key}: a class_path is missing")
    if "." in path and not permitted(path):
        raise UserError(refusal(path, key))
    name = path.rpartition(".")[2]
    known: dict[str, type[Phase] | type[TrainedModule]] = {**Phase.registered, **TrainedModule.registered}
    if name in known and path in (name, f"{known[name].__module__}.{name}"):
        return known[name]
    if "." not in path:
        raise UserError(f"{key}: there is no class {path!r}" + did_you_mean(path, known))
    from jsonargparse.typing import import_object  # type: ignore[attr-defined]

    try:
        found = import_object(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{key}: there is no class {path!r}" + did_you_mean(name, known)) from error
    if not (isinstance(found, type) and issubclass(found, Phase | TrainedModule)):
        raise UserError(f"{key}: {path} is neither a Phase nor a TrainedModule")
    return found


def build_datamodule(spec: Spec, overrides: dict[str, Any] | None = None) -> HandfulDataModule:
    """The data module, with what a phase wants otherwise."""
    datamodule: HandfulDataModule = _instantiate(HandfulDataModule, spec, "data", overrides)
    return datamodule


def build_callbacks(specs: list[Spec]) -> list[pl.Callback]:
    """Fresh callbacks; an instance is never used in two phases."""
    return [_instantiate(pl.Callback, spec, "callback") for spec in specs]


def plain(value: Any) -> Any:
    """Namespaces and tuples as plain dictionaries and lists, functions by their names."""
    if isinstance(value, Namespace):
        return {key: plain(item) for key, item in vars(value).items()}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, FunctionType):  # an optimizer's default; a config takes the name back
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, torch.device | torch.dtype | Path | timedelta):  # what a class's default may be
        return str(value)
    return value
