"""Config files: read strictly, and put before the options, which win over them."""

import difflib
import json
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from handful.errors import UserError, did_you_mean
from handful.file_kinds import instead_of_a_file, special_kind
from handful.record_files import MAX_CONFIG, read_bytes
from pipelines.phase_patterns import expanded, merged, patterns
from pipelines.renamed_classes import renamed

#: More values, or what anchors make of few, are no config.
MAX_VALUES = 100_000

_SUFFIXES = (".yaml", ".yml", ".json")

# torch and Lightning each have a class of this name; Lightning's must be given in full.
_PLATEAU = re.compile(r"(?<![\w.])ReduceLROnPlateau\b")


#: Halves of characters, as escapes of JSON and YAML can write them.
_SURROGATE = re.compile("[\ud800-\udfff]")

#: Byte order marks, those that begin with another one first; without one, which of the first bytes are zero.
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
)  # fmt: skip
_ZEROS = {
    (True, True, True, False): "utf-32-be", (False, True, True, True): "utf-32-le",
    (True, False): "utf-16-be", (False, True): "utf-16-le",
}  # fmt: skip

#: Keys of what a config builds.
_OF_A_CLASS = ("class_path", "init_args", "dict_kwargs")

#: Keys that YAML takes for something else than text.
_OTHER_KEYS = {
    "int": "a number", "float": "a number", "bool": "a truth value", "null": "nothing", "timestamp": "a date",
}  # fmt: skip


class _WrongKeyError(Exception):
    """A key of a config that is not text; with its line."""


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that takes no key twice, and keys that are text only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            kind = key.tag.removeprefix("tag:yaml.org,2002:")
            if kind != "str" and isinstance(name, str) and kind in _OTHER_KEYS:
                raise _WrongKeyError(
                    f"line {key.start_mark.line + 1}: the key {name or 'null'} is {_OTHER_KEYS[kind]}, not a name; put "
                    "it into quotes where a name is meant"
                )
            if kind != "str" or not name:
                raise _WrongKeyError(f"line {key.start_mark.line + 1}: a key must be a name")
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"{name!r} is given twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_config(path: Path) -> tuple[str, dict[str, Any]]:
    """Read a config file.

    What its `extends` names, a file or several with paths that start at its own folder, is read first: mappings are
    merged, and of anything else the later wins, the file itself last.

    UTF-8, UTF-16 and UTF-32, with or without a byte order mark, as YAML has it.

    Returns:
        The text, and what it holds; nothing for an empty file.

    Raises:
        UserError: no such file, another encoding, no YAML, no mapping, a key twice, more than a config can hold, files
            that extend one another in a circle.
    """
    text, found = _read_one(path)
    if "extends" not in found:
        return text, found
    whole = _extended(path, found, (path.resolve(),))
    return _as_text(whole), whole


def _extended(path: Path, found: dict[str, Any], above: tuple[Path, ...]) -> dict[str, Any]:
    """The content of a config on top of what it extends."""
    named = found.get("extends", [])
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: extends is a file or a list of files, not {named!r:.60}")
    whole: dict[str, Any] = {}
    for name in names:
        other = path.parent / name
        if other.resolve() in above:
            raise UserError(f"{path}: extends {name}, which extends it in turn")
        try:
            text, content = _read_one(other)
        except UserError as error:
            raise UserError(f"{path}: extends: {str(error).removeprefix('--config: ')}") from None
        # the text has names as they are now
        content = yaml.load(text, Loader=_StrictLoader) if text else content
        whole = _on_top(whole, _extended(other, content, (*above, other.resolve())))
    return _on_top(whole, {key: value for key, value in found.items() if key != "extends"})


def _on_top(below: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """Two configs as one; the second wins."""
    return merged(below, expanded(content, _named_phases(below), final=False))


def _named_phases(content: dict[str, Any]) -> list[str]:
    phases = content.get("phases")
    return [name for name in phases if "*" not in name] if isinstance(phases, dict) else []


def _as_text(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


class ConfigFile(NamedTuple):
    """A config file that was read.

    Attributes:
        path: of the file.
        text: what it says, with what it extends.
        content: the same as values.
    """

    path: Path
    text: str
    content: dict[str, Any]


def read_configs(files: Sequence[Path]) -> list[ConfigFile]:
    """Read config files of which later ones win; a phase whose name has a `*` stands for those of the files before.

    Raises:
        UserError: as `read_config`, or such a name stands for no phase.
    """
    found: list[ConfigFile] = []
    known: list[str] = []
    for path in files:
        text, content = read_config(path)
        if patterns(content):
            content = expanded(content, known)
            text = _as_text(content)
        for name in patterns(content):
            there = f"there are {', '.join(known)}" if known else "it belongs behind a pipeline's config"
            raise UserError(
                f"{path}: phases: no phase of the configs before it is called {name!r}; {there}"
                f"{did_you_mean(name.replace('*', ''), known)}"
            )
        known += [name for name in _named_phases(content) if name not in known]
        found.append(ConfigFile(path, text, content))
    return found


def _read_one(path: Path) -> tuple[str, dict[str, Any]]:
    """The text and the content of one file, as `read_config` for a file that extends nothing."""
    if path.is_dir():
        raise UserError(f"--config: {path} is a folder; give a file of it")
    if special_kind(path) == "a device":
        raise UserError(f"--config: {path} is a device; give a YAML file, or leave --config out to use options alone")
    if not path.is_file() and not path.is_fifo():  # what a shell makes of <(command) is a pipe
        raise UserError(f"--config: there is no file {path}{instead_of_a_file(path)}{_similar_file(path)}")
    try:
        content = path.read_bytes() if path.is_fifo() else read_bytes(path, MAX_CONFIG)
    except ValueError as error:
        raise UserError(f"{path}: no config ({error})") from error
    return read_text(_decoded(content, path), path)


def read_text(text: str, path: Path) -> tuple[str, dict[str, Any]]:
    """The text of a config and what it holds; `path` is named where it is wrong."""
    try:
        found = yaml.load(text, Loader=_StrictLoader)
        size = _size(found, ())
    except _WrongKeyError as error:
        raise UserError(f"{path}: {error}") from error
    except RecursionError as error:
        raise UserError(f"{path}: not a YAML file; nested too deeply, or in itself") from error
    # of tags that cannot take their value (`!!int x`) the constructors raise what they like
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
    if size > MAX_VALUES:
        raise UserError(f"{path}: more than {MAX_VALUES} values, too many for a config")
    if _SURROGATE.search(json.dumps(found, default=str, ensure_ascii=False)):
        raise UserError(f"{path}: not a YAML file (a half of a character, which is none)")
    _check_class_paths(found, f"{path}:")
    if found is None:
        return "", {}
    if not isinstance(found, dict):
        raise UserError(f"{path}: not a config; it holds a {_kind(found)} where a mapping is needed, key: value")
    return renamed(_PLATEAU.sub("torch.optim.lr_scheduler.ReduceLROnPlateau", text)), found


def configs_first(arguments: Sequence[str]) -> tuple[list[str], list[ConfigFile]]:
    """Put the config files before the options, in their order, so that options win wherever they stand.

    A file is passed on as its text: read once, in whatever encoding.

    Returns:
        The arguments, and the config files.

    Raises:
        UserError: a config file that cannot be read, or `--config` without one.
    """
    files: list[Path] = []
    parts: list[str] = []
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=")
        if name in ("--config", "-c"):
            if not equals:
                if not waiting or waiting[0].startswith("--"):
                    raise UserError(f"{name}: a config file is missing")
                value = waiting.pop(0)
            files.append(Path(value))
        elif name.startswith("--") and (equals or waiting):
            following = value if equals else waiting[0]
            # a part of a config from a file of its own, as in `--trainer trainer.yaml`
            if following.endswith(_SUFFIXES) and Path(following).is_file() and not name.endswith(("_dir", "_path")):
                parts += [argument] if equals else [argument, waiting.pop(0)]
            else:
                rest.append(argument)
        else:
            rest.append(argument)
    found = read_configs(files)
    rest = [_PLATEAU.sub("torch.optim.lr_scheduler.ReduceLROnPlateau", argument) for argument in rest]
    return [*(f"--config={file.text}" for file in found if file.text), *parts, *rest], found


def taken(arguments: Sequence[str], name: str) -> tuple[list[str], list[str]]:
    """The values of an option (`--name VALUE`, `--name=VALUE`), and the arguments without it.

    Raises:
        UserError: the option stands there without a value.
    """
    values: list[str] = []
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == f"--{name}":
            if not waiting or waiting[0].startswith("--"):
                raise UserError(f"--{name}: a value is missing")
            values.append(waiting.pop(0))
        elif argument.startswith(f"--{name}="):
            values.append(argument.partition("=")[2])
        else:
            rest.append(argument)
    return values, rest


def check_name(name: object, key: str) -> None:
    """Refuse what cannot be the name of a folder: of a run or a phase.

    Raises:
        UserError: names the key.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w +=-]*(\.[\w +=-]+)*", name):
        raise UserError(f"{key}: {str(name)[:60]!r} cannot be the name of a folder; take letters, digits, '-' and '_'")
    if len(name.encode()) > 120:
        raise UserError(f"{key}: {name[:20]}… is too long for the name of a folder ({len(name.encode())} bytes)")


def _decoded(content: bytes, path: Path) -> str:
    encoding = _encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise UserError(f"{path}: damaged text in {encoding.upper()}; save the file as UTF-8") from error
        line, byte = content[: error.start].count(b"\n") + 1, content[error.start]
        raise UserError(
            f"{path}: line {line} is not text in UTF-8 (it holds the byte 0x{byte:02X}); if the file is a config, save "
            "it in your editor with the encoding UTF-8"
        ) from error


def _encoding(content: bytes) -> str:
    """How a file is encoded, by its first bytes, the first character of a YAML file being ASCII (YAML 1.2, 5.2)."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    zeros = tuple(byte == 0 for byte in content[:4])
    return _ZEROS.get(zeros, _ZEROS.get(zeros[:2], "utf-8-sig"))


def _similar_file(path: Path) -> str:
    beside = [str(p) for p in path.parent.glob("*") if p.suffix in _SUFFIXES] if path.parent.is_dir() else []
    close = difflib.get_close_matches(str(path), beside, n=1, cutoff=0.7)
    return f"; did you mean {close[0]}?" if close else ""


def _size(value: object, above: tuple[int, ...], known: dict[int, int] | None = None) -> int:
    """How many values a config holds once its aliases are written out."""
    known = {} if known is None else known
    if not isinstance(value, dict | list):
        return 1
    if id(value) in above:
        raise RecursionError
    if id(value) not in known:
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(item, (*above, id(value)), known) for item in items)
    return known[id(value)]


def _check_class_paths(value: object, where: str) -> None:
    """Refuse a `class_path` that is not text, which the parser would trip over, and one that is misspelt."""
    if isinstance(value, list):
        for item in value:
            _check_class_paths(item, where)
    if isinstance(value, dict):
        for name in value:
            meant = difflib.get_close_matches(str(name), _OF_A_CLASS, n=1, cutoff=0.8)
            if name not in _OF_A_CLASS and meant and meant[0] not in value:
                sentence = f"{where}: {name!r} is no key of a class; did you mean {meant[0]!r}?"
                raise UserError(sentence.replace("::", ":"))
        path = value.get("class_path", "")
        if not isinstance(path, str):
            raise UserError(f"{where}: class_path is the name of a class, not a {_kind(path)}".replace("::", ":"))
        for name, item in value.items():
            _check_class_paths(item, f"{where} {name}" if where.endswith(":") else f"{where}.{name}")


def _kind(value: object) -> str:
    kinds = {list: "list", dict: "mapping", str: "text", bool: "truth value", int: "number", float: "number"}
    return kinds.get(type(value), type(value).__name__)
