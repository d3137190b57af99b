"""What README, docs and configs print is there: commands with their options, links, pictures, configs, benchmarks."""

import importlib.util
import itertools
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from pipelines.cli import COMMANDS
from pipelines.option_check import check_options

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
#: Commands whose options are the arguments of a function: the module that holds it.
FUNCTIONS = {name for name in COMMANDS if name not in ("pipeline", "fit", "validate", "test", "predict")}


def printed(path):
    """The commands of `train.py` on a page or in a config, without placeholders, remarks and square brackets."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        text = re.sub(r"^#", "", text, flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(r"(?:^|`)\s*(?:[A-Z_]+=\S+ )?python train\.py ([^`\n]*)", text, re.MULTILINE)
    for line in found:
        line = re.sub(r"--config …|\s#.*|[…\[\]]|\.\.\.| > .*|, .*$|\(.*", " ", line)
        words = shlex.split(line)
        if words and not words[0].startswith("-"):
            assert words[0] in COMMANDS, (path, line)
            yield words[0], words[1:]


def without_runs(words):
    """Options without `--run_dir` and its value, which is the reader's."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == "--run_dir":
            skip = True
        elif not (word == "{" or word.isupper()):
            kept.append(word)
    return kept


@pytest.mark.parametrize("path", [*PAGES, *CONFIGS], ids=lambda path: str(path.relative_to(ROOT)))
def test_options_of_printed_commands_are_there(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for command, words in printed(path):
        if command in FUNCTIONS or (command == "predict" and "--images" in words):
            module = f"pipelines.commands.{'predict_images' if command == 'predict' else command}"
            parser, _ = import_module(module).prepare([])
            known = {string for action in parser._actions for string in action.option_strings}
            given = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert given <= known | {"--help_all"}, (command, given - known)
        else:
            check_options(command, without_runs(words))


def test_enough_commands_are_looked_at():
    assert sum(1 for path in PAGES for _ in printed(path)) > 50
    assert sum(1 for path in CONFIGS for _ in printed(path)) > 40


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_and_pictures_are_there(path):
    text = path.read_text(encoding="utf-8")
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)):
        file = path if not target else (path.parent / target)
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, anchor


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_configs_and_benchmarks_are_there(path):
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"configs/[\w/{},.-]+\.yaml", text):
        parts = [part.split(",") for part in re.split(r"[{}]", name)]
        for choice in itertools.product(*parts):
            assert (ROOT / "".join(choice)).is_file(), "".join(choice)
    for name in re.findall(r"python -m (benchmarks\.\w+)", text):
        assert importlib.util.find_spec(name) is not None, name
