"""Tables that a spreadsheet opens run nothing, and come back as they were."""

import pytest

from handful.report.csv_file import csv_text, defuse, read_csv, restore, write_csv

INVISIBLE = [
    "\0", "\x08", "\x0b", "\x1f", "\x7f", "\x85", "\xa0", "\xad", "\u061c", "\u180e", "\u2009", "\u200b", "\u202e",
    "\u2028", "\u2060", "\u2066", "\u206f", "\u3000", "\ufeff", "\ufff9", " ", "\t", "\n", '"', " \u200b\0 ",
]  # fmt: skip


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "＝", "＋", "－", "＠", "﹦", "﹢", "﹣", "﹫"])
@pytest.mark.parametrize("before", ["", *INVISIBLE])
def test_a_formula_behind_whatever_is_not_seen(sign, before):
    text = f"{before}{sign}cmd|' /C calc'!A0"
    for cell in (text, f"owl;{text}", f"owl\u2028{text}", f"{before}'{sign}cmd"):
        safe = defuse(cell)
        assert f"'{sign}cmd" in safe
        assert restore(safe) == cell


@pytest.mark.parametrize("cell", ["wren", "-1.5", "1e-5", "-inf", "+3", "a-b", "a = b", "O'Neil", "Käuz", "3:1"])
def test_what_is_no_formula_stays(cell):
    assert defuse(cell) == cell
    assert restore(cell) == cell


def test_a_table_comes_back(tmp_path):
    rows = [(f"{mark}=1+1", mark) for mark in INVISIBLE if mark != "\0"]
    write_csv(tmp_path / "a.csv", ["=name", "mark"], rows)
    assert [(row["=name"], row["mark"]) for row in read_csv(tmp_path / "a.csv")] == rows
    assert csv_text(["a"], [["=1"]]) == "a\r\n'=1\r\n"
