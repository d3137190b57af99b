"""A parser whose complaints are one sentence with the nearest valid name."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from handful.errors import UserError, did_you_mean
from pipelines.errors import brief

# Nothing may be imported because a config names it, but for what `pipelines.permitted_classes` permits.
set_parsing_settings(import_path_denylist=["*"], instantiate_subclass_spec_in_any=False)

#: What is expected, in words.
_KINDS = {
    "int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "dict": "a mapping",
    "list": "a list", "Sequence": "a list", "Mapping": "a mapping",
}  # fmt: skip

#: Lines that say what is wrong, and those among them that say more than the kind of a value.
_TELLING = re.compile(r"not accepted|[Nn]o such|not found|must be given|required")
_REASON = re.compile(_TELLING.pattern + "|not a subclass|Expected|invalid|Given value:")

#: How jsonargparse says that a config has a key that is none.
_UNKNOWN = re.compile(
    r"(?:(?:Subcommand '(?P<command>[^']+)'|Group '(?P<group>[^']+)') does not accept option|Option) '(?P<key>[^']+)'"
    r"( is not accepted)?"
)

_OURS = re.compile(
    "is not one of the classes of|there is no class|is not accepted|there is no such option|did you mean"
)


class OneSentenceParser(ArgumentParser):
    """A parser whose complaints are one sentence instead of a page, with the nearest valid name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"exit_on_error": True, "allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the sentence; `run_command` prints it and ends with status 2."""
        raise UserError(condense(self._with_suggestion(str(message) if message else str(ex))))

    def instantiate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> Namespace:
        """Build what the configuration names, after a look at every class it names."""
        from pipelines.permitted_classes import check_classes

        check_classes(namespace)
        return super().instantiate(namespace, *args, **kwargs)

    def instantiate_classes(self, cfg: Namespace, *args: Any, **kwargs: Any) -> Namespace:
        """The same, by the name that LightningCLI calls it."""
        from pipelines.permitted_classes import check_classes

        check_classes(cfg)
        return super().instantiate_classes(cfg, *args, **kwargs)

    def _with_suggestion(self, message: str) -> str:
        """Name the nearest option where one is not known."""
        unknown = _UNKNOWN.search(message)
        if unknown and "did you mean" not in message:
            command, group, key = unknown.group("command", "group", "key")
            key = f"{group}.{key}" if group and not key.startswith(f"{group}.") else key
            hint = _nearest(key, _keys(self, command))
            return message.replace(unknown.group(0), f"Option {key!r} is not accepted{hint}", 1)
        missing = re.search(r"the following arguments are required: (.*)", message)
        if missing:
            names = [name.strip() for name in missing.group(1).split(",")]
            return _missing(names)
        extra = re.search(r"unrecognized arguments: (\S+)", message)
        if extra:
            name = extra.group(1).partition("=")[0]
            if not name.startswith("-"):
                return f"{brief(name)}: an argument that belongs to no option{_meant(name)}"
            strings = [string for action in self._actions for string in action.option_strings]
            below = [s.removeprefix(f"{name}.") for s in strings if s.startswith(f"{name}.") and not s.endswith("+")]
            inner = sorted({s.partition(".")[0] for s in below})
            if inner:
                return f"{name}: a group of options; give those in it, {name}.{f', {name}.'.join(inner[:6])}"
            of_a_pipeline = any(string.startswith("--phases.") for string in strings)
            strings += ["--trust"] if of_a_pipeline else ["--trust", "--run_dir", "--phase"]
            return f"{name}: there is no such option{did_you_mean(name, strings)}"
        return message


def _keys(parser: ArgumentParser, command: str | None) -> list[str]:
    """The keys that a config of a command may have, and the groups that they are in."""
    within = parser._subcommands_action
    choices = {} if within is None else within.choices
    parsers = [choices[command]] if command in choices else [parser, *choices.values()]
    found = [action.dest for one in parsers for action in one._actions if action.dest not in ("help", "config")]
    return [*found, *{name.rpartition(".")[0] for name in found if "." in name}]


def _nearest(key: str, known: Sequence[str]) -> str:
    """The key that is meant in the place of the first part of a path of keys that is none.

    Example:
        >>> _nearest("trainr.accelerator", ["data", "trainer"]), _nearest("a.moule.beta", ["a.module", "a.monitor"])
        ("; did you mean 'trainer'?", "; did you mean 'a.module'?")
    """
    parts = key.split(".")
    for depth in range(len(parts)):
        above = "".join(f"{part}." for part in parts[:depth])
        here = {name.removeprefix(above).partition(".")[0] for name in known if name.startswith(above)}
        if parts[depth] not in here:
            hint = did_you_mean(parts[depth], sorted(here))
            return hint.replace("'", f"'{above}", 1) if hint else did_you_mean(key, known)
    return did_you_mean(key, known)


def _missing(names: Sequence[str]) -> str:
    """What a command needs and was not given, as it would be given."""
    from pipelines.cli import COMMANDS

    command, _, first = names[0].partition(".")
    options = " and ".join(f"--{name.removeprefix(f'{command}.') if command in COMMANDS else name}" for name in names)
    if first in ("data", "model") and command == "fit":
        return "fit: nothing to train was given; add --config FILE, or --model CLASS and --data CLASS"
    if first in ("data", "model") and command in ("validate", "test", "predict"):
        what = " [--images FOLDER]" if command == "predict" else ""
        return f"{command}: no model was given; add --run_dir RUN{what}, or --config FILE and --ckpt_path FILE"
    return f"{command}: {options} must be given" if command in COMMANDS else f"{options} must be given"


def _meant(argument: str) -> str:
    """The option whose value a lone argument probably is."""
    if argument.endswith((".yaml", ".yml")):
        return f"; a config is given by --config {brief(argument)}"
    if (Path(argument) / "config.yaml").is_file():
        return f"; a run is given by --run_dir {brief(argument)}"
    return ""


def condense(message: str) -> str:
    """The key and the innermost reasons of a jsonargparse complaint, on one line."""
    message = _without_other_kinds(message).replace('Parser key "config": ', "").replace('Parser key "config":', "")
    keys = [key for key in re.findall(r'(?:Parser key|Key) "([^"]+)"', message) if key != "config"]
    key = keys[0] if keys else next(iter(re.findall(r"--(?!trust\b)([\w.]+)", message)), "")
    where = f"{key}: " if key else ""
    # what a parser of a class within has said in our words already
    ours = [line.strip().removeprefix("- ") for line in message.splitlines() if _OURS.search(line)]
    denied = re.search(r"Importing '([^']+)' is not allowed", message)
    unknown = re.search(r"(?:Expected a dot import path string|Unexpected import path format): (.*)", message)
    if ours:
        text = re.sub(r'^(Parser key "[^"]+":\s*)+', "", ours[0])
        return text if text.startswith((where, "--")) else where + text
    if denied or unknown:
        from pipelines.permitted_classes import refusal, similar_class
    if denied:
        return refusal(denied.group(1), key)
    if unknown:
        name = unknown.group(1).strip()
        close = similar_class(name)
        return f"{where}there is no class {brief(name)!r}" + (f"; did you mean {close}?" if close else "")
    reasons = [
        line.strip(" -")
        for line in message.splitlines()
        if _REASON.search(line) and "NoneType" not in line and not line.rstrip().endswith(":")
    ]
    if any("Got value:" in reason for reason in reasons):  # the innermost value; those around it are in the config
        reasons = [r.partition("; Given value:")[0] for r in reasons if not r.startswith("Given value:")]
    telling = [r for r in reasons if _TELLING.search(r)] or reasons
    text = "; ".join(map(_brief_value, dict.fromkeys(telling))) or " ".join(message.split())
    text = re.sub(r"a typing\.Literal\[(.*?)\]", r"one of \1", text)
    for kind, words in _KINDS.items():
        text = re.sub(rf"(\ba )?<class '(?:collections\.abc\.)?{kind}'>", words, text)
    named = key and re.search(rf"(?<![\w.]){re.escape(key)}(?!\w)", text)
    return text if named else where + text


#: A class is a phase or a module that a phase trains: the complaint that it is not the other says nothing.
_OTHER_KIND = re.compile(
    r"Expected a dot import path string: (\w+)\s*$|there is no class '(\w+)'|"
    r"Import path [\w.]*?(\w+) does not correspond to a subclass of",
    re.MULTILINE,
)


def _without_other_kinds(message: str) -> str:
    """The complaint without the lines that a known class is not of the other kind, where it has other lines."""
    if "Does not validate against any of the Union subtypes" not in message or not _OTHER_KIND.search(message):
        return message
    from pipelines.permitted_classes import KNOWN

    names = {path.rpartition(".")[2] for path in KNOWN}
    kept = []
    for line in message.splitlines():
        found = _OTHER_KIND.search(line)
        if not found or next(filter(None, found.groups())) not in names:
            kept.append(line)
    return "\n".join(line for line in kept if "Given value: NestedArg(" not in line)


def _brief_value(reason: str) -> str:
    """A reason with its value cut to what a line holds."""
    start, mark, value = reason.rpartition("alue: ")
    return f"{start}{mark}{brief(value)}" if mark else reason
