"""Sections of measured results are replaced, not piled up; `make bench` names benchmarks that are there."""

import importlib

import pytest

from benchmarks.__main__ import BENCHMARKS, ON_REAL_IMAGES
from benchmarks.results import write_section


def test_sections_are_replaced_in_place(tmp_path):
    path = tmp_path / "RESULTS.md"
    write_section("First", ["one"], path)
    write_section("Second", ["two"], path)
    write_section("First", ["three"], path)
    text = path.read_text()
    assert text.index("## First") < text.index("## Second")
    assert "three" in text
    assert "one" not in text
    assert text.count("## ") == 2
    assert "torch" in text


@pytest.mark.parametrize("name", [*BENCHMARKS, *ON_REAL_IMAGES])
def test_every_named_benchmark_is_there(name):
    module, *arguments = name.split()
    found = importlib.import_module(f"benchmarks.{module}")
    assert callable(found.main)
    assert all(argument in found.COMMANDS for argument in arguments)
