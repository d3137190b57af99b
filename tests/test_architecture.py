"""Imports run downward only: handful ← lightning_modules, datamodules ← callbacks ← pipelines ← train.py."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {"handful": 0, "lightning_modules": 1, "datamodules": 1, "callbacks": 2, "pipelines": 3, "train": 4}


def modules(floor):
    return [ROOT / "train.py"] if floor == "train" else sorted((ROOT / floor).rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_run_downward(floor):
    for path in modules(floor):
        for name in imported(path):
            top = name.split(".")[0]
            if top in FLOORS and top != floor:
                assert FLOORS[top] < FLOORS[floor], f"{path.relative_to(ROOT)} imports {name}"
            assert top not in ("tests", "benchmarks"), f"{path.relative_to(ROOT)} imports {name}"


def test_the_library_knows_no_lightning():
    for path in modules("handful"):
        assert not [n for n in imported(path) if n.split(".")[0] in ("lightning", "wandb")], path


def test_one_module_draws_progress_bars():
    for floor in FLOORS:
        for path in modules(floor):
            bars = [n for n in imported(path) if n.split(".")[0] == "tqdm" or n.startswith("rich.progress")]
            assert not bars or path == ROOT / "handful" / "progress.py", path
