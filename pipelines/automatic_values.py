"""Values that a config leaves to the data and the machine: `auto`, settled before anything is built."""

import contextlib
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser

from handful.errors import UserError
from handful.text import safe_text
from pipelines.build import plain
from pipelines.configs import read_config
from pipelines.one_decision import decided_once
from pipelines.photo_recipe import Facts, Recipe
from pipelines.ranks import global_rank
from pipelines.run_folder import folder_of_run

AUTO = "auto"

#: Where a config may say `auto`, by the rule that chooses the value; the group is the phase.
_RULES: dict[str, str] = {
    r"name": "name",
    r"network\.backbone": "backbone",
    r"data\.init_args\.image_size": "image_size",
    r"phases\.([^.]+)\.max_epochs": "epochs",
    r"phases\.([^.]+)\.module\.init_args\.n_features": "n_features",
}
_PLACEHOLDERS: dict[str, Any] = {
    "name": "run", "backbone": "conv4", "image_size": 224, "epochs": 1, "n_features": 2
}  # fmt: skip


#: No value that anybody gives.
_UNSETTLED = 7_046_029_254


@dataclass(frozen=True)
class Choice:
    """A value settled for the user.

    Attributes:
        option: of the command line, which overrides it.
        value: chosen.
        reason: in a few words.
    """

    option: str
    value: Any
    reason: str


def with_choices(parser: ArgumentParser, arranged: Sequence[str]) -> list[str]:
    """Replace every `auto` of configs and options by a value that fits the data and the machine, and print each.

    Args:
        parser: of the pipeline.
        arranged: `--config=TEXT` for every config, then the options.

    Raises:
        UserError: what the values follow from cannot be read.
        SystemExit: the config was to be printed, without images.
    """
    wanted = _wanted(arranged)
    if not wanted or {"-h", "--help"} & set(arranged):
        return _filled(arranged, {path: _PLACEHOLDERS[rule] for path, (rule, _) in wanted.items()})
    found = decided_once("automatic values", lambda: _decided(parser, arranged, wanted))
    config_wanted = _wants_config(arranged)
    if "unreadable" in found:
        _print_as_it_is(parser, arranged, wanted, found["unreadable"])
    choices = {path: Choice(*choice) for path, choice in found["choices"].items()}
    if global_rank() == 0:
        text = _text(found["described"], list(choices.values()))
        print(text, flush=True, file=sys.stderr if config_wanted else sys.stdout)
    return _filled(arranged, {path: choice.value for path, choice in choices.items()})


def _decided(
    parser: ArgumentParser, arranged: Sequence[str], wanted: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """The facts in words, and the choice of every value by its path; or why there are none. Plain values."""
    trial = [argument for argument in arranged if not argument.startswith("--print_config")]
    parsed = parser.parse_args(_filled(trial, {path: _PLACEHOLDERS[rule] for path, (rule, _) in wanted.items()}))
    try:
        facts = Facts.of(plain(parsed), set(wanted))
    except UserError as error:
        if _wants_config(arranged):
            return {"unreadable": str(error)}
        raise
    recipe = Recipe(facts)
    choices: dict[str, Choice] = {}
    recorded: dict[str, Any] | None = None
    for path, (rule, phase) in sorted(wanted.items(), key=lambda item: list(_PLACEHOLDERS).index(item[1][0])):
        if recorded is None and rule != "name":
            recorded = _recorded(facts, choices)
        if recorded is not None and path in recorded:
            value, reason = recorded[path], "kept from the start of this run"
            recipe.given(rule, phase, value)
        else:
            value, reason = recipe.settle(rule, phase)
        choices[path] = Choice(f"--{_short(path)}", value, reason)
    return {"described": facts.described, "choices": {path: list(astuple(c)) for path, c in choices.items()}}


def _wants_config(arranged: Sequence[str]) -> bool:
    return any(argument.startswith("--print_config") for argument in arranged)


def _print_as_it_is(
    parser: ArgumentParser, arranged: Sequence[str], wanted: Mapping[str, tuple[str, str]], why: str
) -> NoReturn:
    """Print the config with `auto` where it stands: a template needs no images.

    Raises:
        SystemExit: with status 0.
        UserError: the config is wrong in some other way.
    """
    # in the place of numbers the parser takes a number alone
    kept = {path: AUTO if isinstance(_PLACEHOLDERS[rule], str) else _UNSETTLED for path, (rule, _) in wanted.items()}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        parser.parse_args(_filled(arranged, kept))
    print(re.sub(rf"\b{_UNSETTLED}\b", AUTO, printed.getvalue()), end="", flush=True)
    print(safe_text(f"handful: {AUTO} stays {AUTO}: {why}"), file=sys.stderr, flush=True)
    raise SystemExit(0)


def _recorded(facts: Facts, choices: Mapping[str, Choice]) -> dict[str, Any]:
    """Path → value of the run that is in the folder already: the same command resumes it, whatever has changed since.

    Processes that a run starts find the values there as well.
    """
    name = choices["name"].value if "name" in choices else facts.values["name"]
    file = folder_of_run(facts.values.get("run_dir"), name) / "config.yaml"
    if not file.is_file():
        return {}
    try:
        return dict(_leaves(read_config(file)[1]))
    except UserError:  # what is wrong with it is said where the run is opened
        return {}


def _text(described: str, choices: Sequence[Choice]) -> str:
    width = max(len(f"{c.option} {c.value}") for c in choices)
    lines = [f"  {f'{c.option} {c.value}'.ljust(width)}   {c.reason}" for c in choices]
    return "\n".join([f"{described}. Values chosen automatically (override any with its option):", *lines])


def _wanted(arranged: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Path → (rule, phase) of every value that is `auto` and stays so."""
    found: dict[str, tuple[str, str]] = {}
    for path, value in _values(arranged):
        for pattern, rule in _RULES.items():
            if match := re.fullmatch(pattern, path):
                found.pop(path, None)
                if value == AUTO:
                    found[path] = rule, (match.groups() or ("",))[0]
    return found


def _values(arranged: Sequence[str]) -> list[tuple[str, Any]]:
    """Path and value of every leaf of the configs, then of every option, in the order in which they win."""
    values: list[tuple[str, Any]] = []
    for index, argument in enumerate(arranged):
        name, equals, text = argument.partition("=")
        if name == "--config":
            values += [(_whole(path), value) for path, value in _leaves(yaml.safe_load(text))]
        elif name.startswith("--"):
            following = text if equals else (arranged[index + 1] if index + 1 < len(arranged) else "")
            given = _mapping(following)
            path = name.removeprefix("--")
            values += [(_whole(path), following)] if given is None else [
                (_whole(inner), value) for inner, value in _leaves(given, path)
            ]  # fmt: skip
    return values


def _mapping(text: str) -> dict[str, Any] | None:
    """A mapping that stands as an option's value, or in a file that the value names."""
    if text.endswith((".yaml", ".yml", ".json")) and Path(text).is_file():
        return read_config(Path(text))[1]
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:  # the parser says what is wrong
        return None
    return found if isinstance(found, dict) else None


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(path, value)]
    return [leaf for key, inner in value.items() for leaf in _leaves(inner, f"{path}.{key}" if path else str(key))]


def _filled(arranged: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """The arguments with values in the place of every `auto` of a rule; later ones override where they did before."""
    filled: list[str] = []
    waiting = list(arranged)
    while waiting:
        argument = waiting.pop(0)
        name, equals, text = argument.partition("=")
        path = _whole(name.removeprefix("--"))
        if name == "--config":
            filled.append(f"--config={_config(text, values)}")
        elif name.startswith("--") and _has_rule(path) and (text if equals else [*waiting, ""][0]) == AUTO:
            if not equals:
                waiting.pop(0)
            filled.append(f"{name}={values.get(path, _placeholder(path))}")
        elif name.startswith("--") and _leaves_some(given := _mapping(text if equals else [*waiting, ""][0]), path):
            if not equals:
                waiting.pop(0)
            filled.append(f"{name}={json.dumps(_replaced(given, values, path))}")
        else:
            filled.append(argument)
    return filled


def _config(text: str, values: Mapping[str, Any]) -> str:
    content = yaml.safe_load(text)
    if not _leaves_some(content):
        return text
    # JSON keeps what is text apart from what is a number
    return json.dumps(_replaced(content, values))


def _leaves_some(content: Any, path: str = "") -> bool:
    """Whether a value of a mapping is left to be settled."""
    return content is not None and any(v == AUTO and _has_rule(_whole(p)) for p, v in _leaves(content, path))


def _replaced(value: Any, values: Mapping[str, Any], path: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _replaced(inner, values, f"{path}.{key}" if path else str(key)) for key, inner in value.items()}
    whole = _whole(path)
    return values.get(whole, _placeholder(whole)) if value == AUTO and _has_rule(whole) else value


def _rule(path: str) -> str | None:
    return next((rule for pattern, rule in _RULES.items() if re.fullmatch(pattern, path)), None)


def _has_rule(path: str) -> bool:
    return _rule(path) is not None


def _placeholder(path: str) -> Any:
    rule = _rule(path)
    return None if rule is None else _PLACEHOLDERS[rule]


def _short(path: str) -> str:
    """A path as an option: `init_args` may be left out behind `data` and `module`."""
    return re.sub(r"^(data|phases\.[^.]+\.module)\.init_args\.", r"\1.", path)


def _whole(option: str) -> str:
    """An option as a path of the config."""
    return re.sub(r"^(data|phases\.[^.]+\.module)\.(?!init_args\.|class_path)", r"\1.init_args.", option)
