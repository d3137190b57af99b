"""A look at the values of config files before imports of seconds: what no class could take is refused at once.

What passes here is checked by the parsers themselves, in every detail.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handful.errors import UserError, did_you_mean
from pipelines.class_arguments import Argument, arguments_of, class_names, file_of, is_class, is_known_package
from pipelines.configs import ConfigFile
from pipelines.dotted_keys import nested
from pipelines.option_parser import OneSentenceParser
from pipelines.ranges import OF_PIPELINES, check_argument, check_range

#: What a value may be that is left to the data and the machine.
AUTO = "auto"

#: Keys of the mapping that names a class.
_SPEC = ("class_path", "init_args", "dict_kwargs")

#: The name of a class, with or without its module; names of functions begin with small letters.
_NAME = re.compile(r"([A-Za-z_]\w*\.)*[A-Z]\w*", re.ASCII)


class ConfigCheck:
    """Looks at the values of config files, one after another.

    Args:
        plain: option → the type of its values.
        groups: group of options → the arguments in it.
        classes: keys where a class is named.
        lists: keys where a list of classes stands.
        closed: keys of mappings that hold nothing else; "" is the whole config.
        others: whether there may be classes of other packages, which are known by name alone.
    """

    def __init__(
        self,
        plain: Mapping[str, Any],
        groups: Mapping[str, Mapping[str, Argument]],
        classes: Sequence[str],
        lists: Sequence[str] = (),
        closed: Sequence[str] = (),
        others: bool = False,
    ) -> None:
        self._plain, self._groups, self._classes, self._lists = plain, groups, classes, lists
        self._closed, self._others = closed, others
        self._chosen: dict[str, str] = {}

    def check(self, files: Sequence[ConfigFile]) -> None:
        """Refuse keys that are not there and values of another kind.

        Raises:
            UserError: names the file and the key.
        """
        for file in files:
            self._top(file.path, nested(file.content))

    def _top(self, file: Path, content: Mapping[str, Any]) -> None:
        appended = [f"{name}+" for name in self._lists]
        known = {*self._plain, *self._groups, *self._classes, *self._lists, *appended, "config", "extends"}
        for group in self._closed:
            start = f"{group}." if group else ""
            there = {name.removeprefix(start).partition(".")[0] for name in known if name.startswith(start)}
            found = _at(content, group) if group else content
            for name in found if isinstance(found, Mapping) else ():
                if name not in there:
                    near = did_you_mean(f"{start}{name}", [f"{start}{one}" for one in sorted(there)])
                    raise UserError(f"{file}: Option '{start}{name}' is not accepted{near}")
        for name, kind in self._plain.items():
            _fits(file, name, kind, _at(content, name))
            if name == "seed" or name.startswith("phases."):
                check_range(f"{file}: {name}", OF_PIPELINES.get(name.rpartition(".")[2]), _at(content, name))
        for name, members in self._groups.items():
            found = _at(content, name)
            for inner, value in found.items() if isinstance(found, Mapping) else ():
                if (known_as := _whose(inner)) not in members:
                    near = did_you_mean(f"{name}.{inner}", [f"{name}.{one}" for one in members])
                    raise UserError(f"{file}: Option '{name}.{inner}' is not accepted{near}")
                if known_as == inner:
                    _fits(file, f"{name}.{inner}", members[inner].type, value)
                    self._ranges(file, f"{name}.{inner}", inner, members[inner], value)
        for name in self._classes:
            self._spec(file, name, _at(content, name))
        for name in self._lists:
            found = _at(content, name)
            for place, value in enumerate(found if isinstance(found, list) else ()):
                self._spec(file, f"{name}[{place}]", value)
            more = _at(content, f"{name}+")
            for place, value in enumerate(more if isinstance(more, list) else [more]):
                self._spec(file, f"{name}+[{place}]", value)

    def _spec(self, file: Path, key: str, value: Any) -> None:
        """Look at a class, by its name or as a mapping, and at its arguments."""
        given = isinstance(value, Mapping)
        value = nested(value) if given else value
        path = value.get("class_path") if given else value
        if isinstance(path, str):
            if not self._others:
                check_class_name(f"{file}: {key}", path)
            self._chosen[key] = path
        arguments = arguments_of(self._chosen[key]) if key in self._chosen else None
        inner = value.get("init_args") if given else None
        if arguments is None or not isinstance(inner, Mapping):
            return
        for name, item in inner.items():
            argument = arguments.get(known_as := _whose(name))
            if argument is None:
                raise UserError(f"{file}: {key}: Option {name!r} is not accepted{did_you_mean(name, arguments)}")
            place = f"{key}.{name}"
            if known_as == name:
                _fits(file, place, argument.type, item)
                self._ranges(file, place, name, argument, item)
            elif "." in name:
                continue
            for one in item if isinstance(item, list) else [item]:
                named = isinstance(one, str) and argument.is_factory
                if named or (isinstance(one, Mapping) and set(one) & set(_SPEC)):
                    self._spec(file, place, one)


    def _ranges(self, file: Path, key: str, name: str, argument: Argument, value: Any) -> None:
        if not self._others and value != AUTO:
            check_argument(f"{file}: {key}", name, value, argument.file)


def check_class_name(key: str, path: str) -> None:
    """Refuse the name of a class that neither torch, Lightning nor Handful has.

    Names that are no names, or of other packages, are left to those who know them, and so is what a module may have
    by other ways than its own lines.

    Raises:
        UserError: names the key, and the class that is probably meant.
    """
    module, _, name = path.rpartition(".")
    if not _NAME.fullmatch(path) or (module and not is_known_package(module)) or is_class(path):
        return
    if module and _may_have(module, name):
        return
    near = did_you_mean(name, class_names()).replace("'", "")
    raise UserError(f"{key}: there is no class {path!r}{near}")


def _may_have(module: str, name: str) -> bool:
    """Whether a module may have a name: its file is not found, has the word, or has more than is written in it."""
    file = file_of(module)
    if file is None:
        return True
    text = file.read_text(encoding="utf-8")
    stars = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom))
    return (
        re.search(rf"\b({re.escape(name)}|globals|__getattr__)\b", text) is not None
        or any(one.name == "*" for node in stars for one in node.names)
    )  # fmt: skip


def _whose(name: str) -> str:
    """The argument that a key is about: without the `+` that appends to a list, and what lies beneath."""
    return name.partition(".")[0].removesuffix("+")


def _at(content: Any, key: str) -> Any:
    """The value of a key with dots; None where there is none."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def _fits(file: Path, key: str, kind: Any, value: Any) -> None:
    """Refuse a value of another kind."""
    if kind is None or value is None or value == AUTO or type(value) is kind:
        return
    parser = OneSentenceParser()
    parser.add_argument("--value", type=kind)
    try:
        parser.parse_object({"value": value})
    except UserError as error:
        raise UserError(f"{file}: {key}: {str(error).removeprefix('value: ')}") from error
