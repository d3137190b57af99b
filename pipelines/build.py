"""From specs in plain values to objects, as jsonargparse builds them."""

import copy
from types import FunctionType
from typing import Any

import lightning.pytorch as pl
from jsonargparse import ArgumentParser, Namespace

from datamodules.base import HandfulDataModule
from handful.errors import UserError
from lightning_modules import PhaseModule
from pipelines.errors import user_error_in
from pipelines.option_parser import OneSentenceParser
from pipelines.phases import Spec
from pipelines.trusted import permitted, refusal, similar_class

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
        told = user_error_in(error)
        cause = _innermost(error)
        if told is None and _raised_by_us(cause):
            raise
        if told is None:  # a class of Lightning or of the user's own
            why = " ".join(str(cause).split())
            raise UserError(f"{key}: {spec.get('class_path')} refuses its arguments: {why}") from error
        if told is error:
            raise
        sentence = str(told)
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


def build_module(spec: Spec, phase: str, shared: dict[str, Any]) -> PhaseModule:
    """The phase's module; `shared` values (network, num_classes, …) go to those that take them.

    Raises:
        UserError: the class or an argument is unknown.
    """
    cls = class_of(PhaseModule, spec, f"phases.{phase}.module")
    accepted = {name: value for name, value in shared.items() if cls.accepts(name)}
    module: PhaseModule = _instantiate(PhaseModule, spec, "module", accepted)
    return module


def build_datamodule(spec: Spec, overrides: dict[str, Any] | None = None) -> HandfulDataModule:
    """The data module, with what a phase wants otherwise."""
    datamodule: HandfulDataModule = _instantiate(HandfulDataModule, spec, "data", overrides)
    return datamodule


def build_callbacks(specs: list[Spec]) -> list[pl.Callback]:
    """Fresh callbacks; an instance is never used in two phases."""
    return [_instantiate(pl.Callback, spec, "callback") for spec in specs]


def class_of(base: type, spec: Spec, key: str) -> Any:
    """The class that a spec names.

    Raises:
        UserError: there is no such class.
    """
    name = spec.get("class_path")
    if not isinstance(name, str):
        raise UserError(f"{key}: a class_path is missing")
    for cls in _subclasses(base):
        if name in (cls.__name__, f"{cls.__module__}.{cls.__name__}"):
            return cls
    if "." in name and not permitted(name):
        raise UserError(refusal(name, key))
    from jsonargparse.typing import import_object  # type: ignore[attr-defined]

    try:
        return import_object(name)
    except (ImportError, AttributeError, ValueError) as error:
        close = similar_class(name)
        raise UserError(f"{key}: there is no class {name!r}" + (f"; did you mean {close}?" if close else "")) from error


def _subclasses(base: type[Any]) -> list[type[Any]]:
    found: list[type[Any]] = []
    for cls in base.__subclasses__():
        found += [cls, *_subclasses(cls)]
    return found


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
    return value
