"""A look at the options of a command before imports of seconds: what no class could take is refused at once.

What passes here is checked by the parsers themselves, in every detail.
"""

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from handful.errors import UserError, did_you_mean
from handful.file_kinds import special_kind
from pipelines.class_arguments import Argument, arguments_of, fields_of, trainer_arguments
from pipelines.commands.signature import signature_of
from pipelines.commands.value_check import check_stage
from pipelines.config_check import AUTO, ConfigCheck, check_class_name
from pipelines.configs import ConfigFile, configs_first
from pipelines.dotted_keys import nested
from pipelines.find_run import find_run
from pipelines.option_parser import OneSentenceParser
from pipelines.plain_options import add_plain_options, add_plain_phase_options, chosen_configs, phase_names
from pipelines.ranges import OF_PIPELINES, check_argument, check_range

#: Options of every command.
_ALWAYS = ("--config", "-c", "--help", "-h", "--help_all", "--print_config", "--trust")

#: Of each phase, beside the plain ones: mappings and classes.
_OF_A_PHASE = ("module", "trainer", "callbacks", "data")

#: Options of other classes than the chosen one, which a mistyped option may mean.
_OFTEN = {"pipeline": ("--data.root", "--data.labels")}

#: Of LightningCLI's commands.
_OF_LIGHTNING = {
    "fit": ("--seed_everything", "--ckpt_path", "--weights_only"),
    "validate": ("--seed_everything", "--ckpt_path", "--weights_only", "--verbose", "--run_dir", "--phase"),
    "test": ("--seed_everything", "--ckpt_path", "--weights_only", "--verbose", "--run_dir", "--phase"),
    "predict": ("--seed_everything", "--ckpt_path", "--weights_only", "--return_predictions", "--run_dir", "--phase"),
}


def check_options(command: str, arguments: Sequence[str], others: bool = False) -> None:
    """Refuse options that the command does not have, and plain values that cannot be, in configs as well.

    Args:
        command: `pipeline`, or one of LightningCLI's.
        arguments: behind the command.
        others: whether classes of other packages may be named.

    Raises:
        UserError: names the option and the one that is probably meant, or the value.
    """
    if any(special_kind(Path(name)) for name in _given(arguments, {"--config", "-c"}, files=True)[1::2]):
        return  # what a shell makes of <(command) can be read once only
    for run in _given(arguments, {"--run_dir"})[1::2] if command != "pipeline" else ():
        find_run(run, quiet=True)
        for phase in _given(arguments, {"--phase"})[1::2]:
            check_stage(run, phase)
    known = _pipeline(arguments, others) if command == "pipeline" else _lightning(command, arguments, others)
    for name in _options(arguments):
        if not known.has(name):
            often = _OFTEN.get(command, ()) if command != "predict" else _of_pictures()
            meant = did_you_mean(name, [*known.near(name), *often])
            raise UserError(f"{name}: there is no such option{meant}")
    _check_values(known, arguments, others)


def _of_pictures() -> list[str]:
    """The options that `predict` has with `--images`."""
    return [f"--{name}" for name in inspect.signature(signature_of("pipelines.predict", "predict")).parameters]


class _Known:
    """The options that a command has: some by name, and groups with a list of what they hold, or with anything."""

    def __init__(self, plain: Sequence[str]) -> None:
        self._plain = set(plain)
        self._groups: dict[str, Mapping[str, Argument] | None] = {}
        self.classes: Sequence[str] = ()

    def add(self, group: str, members: Mapping[str, Argument] | None) -> None:
        """Add `--group`, `--group.member` and what lies beneath; of any name where the members are not known."""
        self._groups[f"--{group}"] = members

    def has(self, name: str) -> bool:
        """Whether there is an option of that name."""
        name = _within(name.removesuffix("+"))
        if name in self._plain or name in self._groups:
            return True
        inside = max((g for g in self._groups if name.startswith(f"{g}.")), key=len, default=None)
        if inside is None:
            return any(group.startswith(f"{name}.") for group in self._groups)  # a group of groups
        members = self._groups[inside]
        parts = name.removeprefix(f"{inside}.").split(".")
        if members is None or not parts or parts[0] in ("class_path", "dict_kwargs", "help"):
            return True
        return parts[0] in members

    def argument(self, name: str) -> Argument | None:
        """What an option inside a group is; None where that is not known."""
        name = _within(name)
        inside = max((g for g in self._groups if name.startswith(f"{g}.")), key=len, default="")
        return (self._groups.get(inside) or {}).get(name.removeprefix(f"{inside}."))

    def names_class(self, name: str) -> bool:
        """Whether the values of an option are names of classes."""
        name = _within(name).removesuffix(".class_path")
        argument = self.argument(name)
        return name.removeprefix("--") in self.classes or (argument is not None and argument.is_factory)

    def near(self, name: str) -> list[str]:
        """All that are known by name; of an option inside a group, those of the group."""
        inner = [f"{group}.{one}" for group, members in self._groups.items() for one in sorted(members or ())]
        inside = [one for one in inner if one.rpartition(".")[0] == name.rpartition(".")[0]]
        return inside or [*sorted(self._plain), *self._groups, *inner]


def _within(name: str) -> str:
    """An option's name without `init_args`, which may be left out."""
    return name.replace(".init_args.", ".")


def _pipeline(arguments: Sequence[str], others: bool) -> _Known:
    _, files = chosen_configs(arguments)
    phases = phase_names(files) if files else []
    parser = OneSentenceParser()
    add_plain_options(parser)
    for phase in phases:
        add_plain_phase_options(parser, phase)
    types = {string: action._typehint for action in parser._actions for string in action.option_strings
             if hasattr(action, "_typehint")}  # fmt: skip
    given = _given(arguments, set(types))
    settled = [pair for pair in zip(given[::2], given[1::2], strict=True) if pair[1] != AUTO]
    parser.parse_args([part for pair in settled for part in pair])  # refuses values of another kind
    for name, value in settled:
        if name == "--seed" or name.startswith("--phases."):
            check_range(name, OF_PIPELINES.get(name.rpartition(".")[2].removeprefix("--")), value)
    known = _Known([*types, *_ALWAYS])
    groups = {
        "network": fields_of("handful/networks/build.py", "NetworkConfig"),
        "trainer": trainer_arguments(),
        "wandb": fields_of("pipelines/config.py", "WandbConfig"),
        **{f"phases.{phase}.trainer": trainer_arguments() for phase in phases},
    }
    for group, members in groups.items():
        known.add(group, members)
    classes = ["data", *(f"phases.{phase}.module" for phase in phases)]
    lists = [f"phases.{phase}.callbacks" for phase in phases]
    _add_classes(known, classes, arguments, files)
    for key in ("rounds", *lists, *(f"phases.{phase}.data" for phase in phases)):
        known.add(key, None)
    plain = {name.removeprefix("--"): kind for name, kind in types.items()}
    # of any content
    further = {"rounds": None, **{f"phases.{phase}.data": None for phase in phases}}
    closed = ["", *(f"phases.{phase}" for phase in phases)]
    ConfigCheck({**plain, **further}, groups, classes, lists, closed, others).check(files)
    return known


def _lightning(command: str, arguments: Sequence[str], others: bool) -> _Known:
    files = configs_first(arguments)[1]
    known = _Known([*_ALWAYS, *_OF_LIGHTNING[command]])
    known.add("trainer", trainer_arguments())
    _add_classes(known, ["model", "data"], arguments, files)
    groups = {"trainer": trainer_arguments()}
    ConfigCheck({"seed_everything": bool | int}, groups, ["model", "data"], others=others).check(files)
    return known


def _add_classes(known: _Known, keys: Sequence[str], arguments: Sequence[str], files: Sequence[ConfigFile]) -> None:
    """Add the arguments of classes, and of those within them that an option reaches into."""
    contents = [nested(file.content) for file in files]
    known.classes = keys
    for key in keys:
        known.add(key, _taken_by(key, arguments, contents))
        for option in map(_within, _options(arguments)):
            inner = option.removeprefix(f"--{key}.").split(".") if option.startswith(f"--{key}.") else []
            for place in range(1, len(inner)):
                within = ".".join((key, *inner[:place]))
                members = _taken_by(within, arguments, contents)
                if members is None:
                    break
                known.add(within, members)


def _check_values(known: _Known, arguments: Sequence[str], others: bool) -> None:
    """Refuse values of another kind than the classes take, and names that no class has."""
    types = {
        name: found.type for name in _options(arguments)
        if (found := known.argument(name)) is not None and found.type is not None
    }  # fmt: skip
    named = _given(arguments, {name for name in _options(arguments) if not others and known.names_class(name)})
    for name, value in zip(named[::2], named[1::2], strict=True):
        check_class_name(name, value)
    given = _given(arguments, set(types))
    parser = OneSentenceParser()
    for name, kind in types.items():
        parser.add_argument(name, type=kind)
    pairs = [pair for pair in zip(given[::2], given[1::2], strict=True) if pair[1] != AUTO]
    parser.parse_args([f"{name}={value}" for name, value in pairs])
    for name, value in pairs:
        if not others and (argument := known.argument(name)) is not None:
            check_argument(name, name.rpartition(".")[2], value, argument.file)


def _taken_by(
    key: str, arguments: Sequence[str], contents: Sequence[Mapping[str, Any]]
) -> Mapping[str, Argument] | None:
    """The arguments of the class that the options or the configs name for a key; None where they cannot be known."""
    chosen: Any = None
    for content in contents:
        found: Any = content
        for part in key.split("."):
            found = found.get("init_args", found) if isinstance(found, Mapping) else None
            found = found.get(part) if isinstance(found, Mapping) else None
        named = found.get("class_path") if isinstance(found, Mapping) else found
        chosen = named or chosen
    names = {argument.partition("=")[0] for argument in arguments}
    wanted = {name for name in names if _within(name) in (f"--{key}", f"--{key}.class_path")}
    chosen = next(reversed(_given(arguments, wanted)[1::2]), chosen)
    return arguments_of(chosen) if isinstance(chosen, str) else None


def _options(arguments: Sequence[str]) -> Iterator[str]:
    """The names of options, up to `--`."""
    for argument in arguments:
        if argument == "--":
            return
        name = argument.partition("=")[0]
        if name.startswith("--") and len(name) > 2:
            yield name


def _given(arguments: Sequence[str], names: set[str], files: bool = False) -> list[str]:
    """Options of these names, each followed by its value where it has one; without values that are files."""
    found: list[str] = []
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        if name in names and equals:
            found += [name, value]
        elif name in names and following and not following.startswith("--"):
            found += [name, following] if files or not os.path.isfile(following) else []
    return found
