"""Sections of measured results are replaced, not piled up."""

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
