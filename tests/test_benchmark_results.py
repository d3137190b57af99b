"""Sections of measured results are replaced, not piled up; `make bench` names benchmarks that are there."""

import importlib
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import benchmarks
from benchmarks.__main__ import BENCHMARKS, BY_HAND, OF_RUNS, ON_REAL_IMAGES, main
from benchmarks.attribution_measures import BIRD_COLUMNS, COLUMNS, Bench, tables, write_page
from benchmarks.kept_rows import KeptRows, code_digest
from benchmarks.results import shown, write_section
from handful.networks import DenseHead


def test_sections_are_replaced_in_place(tmp_path):
    path = tmp_path / "RESULTS.md"
    write_section("First", ["one"], path)
    write_section("Second", ["two"], path)
    write_section("First", ["three"], path)
    text = path.read_text()
    assert text.index("## First") < text.index("## Second")
    assert "three" in text
    assert "\none\n" not in text
    assert text.count("## ") == 2
    assert "torch" in text


def test_arguments_are_shown_without_folders():
    given = ["--runs", "/a/b/runs", "--data.root=../x/birds.zip", "--network.options", "{width: 4}"]
    assert shown(given) == ["--runs", "runs", "--data.root=birds.zip", "--network.options", "'{width: 4}'"]


def test_a_row_is_found_again_only_where_all_that_decides_it_is_the_same(tmp_path):
    code = tmp_path / "code.py"
    code.write_text("one")
    made = []

    def row(name="cam", options=None, **decides):
        kept = KeptRows(tmp_path / "rows.json", **({"images": [1, 2], "code": code_digest([code])} | decides))
        return kept.row(name, options or {}, lambda: made.append(1) or {"value": float(len(made)), "not": math.nan})

    assert row()["value"] == 1
    assert row()["value"] == 1
    assert math.isnan(row()["not"])
    assert row(options={"samples": 4})["value"] == 2
    assert row(images=[1, 3])["value"] == 3
    assert row("ig")["value"] == 4
    code.write_text("two")
    assert row()["value"] == 5
    code.write_text("one")
    assert row()["value"] == 1
    assert len(made) == 5


def test_what_a_row_of_attribution_measures_hangs_on(monkeypatch):
    """Weights, images, options and code of the benchmark are in the key of every row."""
    bench = Bench.__new__(Bench)
    bench.run = SimpleNamespace(made_of=lambda phase: f"weights of {phase}", config={"data": {"seed": 0}})
    bench.ids, bench.few, bench.birds = [3, 5], 1, [0]
    decides = bench.decides()
    assert decides["weights"] == "weights of finetune"
    assert bench.of_row("lime") == [{"samples": 150}, None]
    assert bench.of_row("general") == [{}, "weights of plugin"]
    assert (decides["images"], decides["few"], decides["birds"]) == ([3, 5], 1, [0])
    monkeypatch.setattr("benchmarks.attribution_measures.CODE", ("handful/blur.py",))
    assert bench.decides()["code"] != decides["code"]


def test_help_lists_the_benchmarks_and_starts_none(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert all(name.split()[0] in said for name in (*BENCHMARKS, *ON_REAL_IMAGES))
    assert "──" not in said
    with pytest.raises(SystemExit):
        main(["sparse_solvr"])
    assert "did you mean 'sparse_solver'?" in capsys.readouterr().err


ALL = [*BENCHMARKS, *ON_REAL_IMAGES, *OF_RUNS, *BY_HAND]
MODULES = sorted({name.split()[0] for name in ALL} | {"sparse_memory"})


@pytest.mark.parametrize("name", MODULES)
def test_every_benchmark_has_a_help_and_starts_nothing_for_it(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    module = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as end:
        module.main(["--help"]) if name == "plugin" else module.main()
    said = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    assert " ".join(module.__doc__.split())[:60] in said


def test_the_page_of_attribution_measures_is_written_whole(tmp_path):
    bench = Bench.__new__(Bench)
    bench.run = SimpleNamespace(config={"phases": {"plugin": {"max_epochs": 4}}})
    bench.ids, bench.few, bench.birds, bench.accuracy = [3, 5], 2, [0], 99.0
    bench.masks = torch.ones(2, 4, 4, dtype=torch.bool)
    bench.model = SimpleNamespace(head=DenseHead(6, 3))
    bench.watched = SimpleNamespace(images=torch.zeros(1, 3, 4, 4))
    birds = [f"birds_{name}" for name in (*BIRD_COLUMNS, "accuracy", "background_independence")]
    row = dict.fromkeys([*COLUMNS, *birds], 0.2)
    rows = {
        "cam": row | {"randomised_undefined": 0.0},
        "gradient": row | {"randomised": -0.9, "randomised_undefined": 1.0},
        "keep": row | {"randomised": math.nan, "randomised_undefined": 2.0},
    }
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured -->\nan old line by hand\n<!-- end of measured -->\nafter\n")
    write_page(tables(rows, bench), page)
    text = page.read_text()
    assert text.startswith("before\n<!-- measured -->\n")
    assert text.endswith("<!-- end of measured -->\nafter\n")
    assert "an old line by hand" not in text
    assert "--images 2 --few 2 --birds 1" in text
    assert "trained for 4 epochs" in text
    assert "gradient (1 of 2), Kept share (2 of 2)" in text
    lines = [line for line in text.splitlines() if line.count("|") == 15 and "---" not in line]
    passed = [line.split("|")[-2].strip() for line in lines]
    assert passed == ["passed", "✓", "✗", "–"]


def test_a_section_says_the_command_that_wrote_it(tmp_path, monkeypatch):
    options = ["--features", "/home/somebody/lite0.pt", "--out=/tmp/a/b.json", "--small", "40"]
    monkeypatch.setattr("sys.argv", ["/usr/bin/anything", *options])
    monkeypatch.setitem(sys.modules, "__main__", importlib.import_module("benchmarks.assignment"))
    write_section("First", ["one"], tmp_path / "RESULTS.md")
    expected = "`python -m benchmarks.assignment --features lite0.pt --out=b.json --small 40`"
    assert expected in (tmp_path / "RESULTS.md").read_text()


def test_no_benchmark_is_forgotten():
    """Every module that writes a section is run by `make bench`, or said to be run by hand."""
    writing = {
        file.stem for file in Path(benchmarks.__file__).parent.glob("*.py")
        if "write_section(" in file.read_text() and "def main(" in file.read_text() and file.stem != "results"
    }  # fmt: skip
    assert writing - {name.split()[0] for name in ALL} == set()


@pytest.mark.parametrize("name", ALL)
def test_every_named_benchmark_is_there(name):
    module, *arguments = name.split()
    found = importlib.import_module(f"benchmarks.{module}")
    assert callable(found.main)
    assert all(argument in found.COMMANDS for argument in arguments)
