"""Sections of `evaluate` and `probe`: whatever a record holds that passes as one is shown, or left out."""

import json
from pathlib import Path

import pytest

from handful.report.content import Content
from handful.report.page import render
from handful.report.sections import measures, probe

RECORD = {
    "made_from": {}, "split": "test", "images": 5,
    "measures": {"m": {"title": "t", "better": "lower", "values": ["m", "n"]}},
    "stages": {"dense": {"m": 0.25, "n": None}},
    "details": {"dense": {"alignment": {"features": [{"feature": 3, "attribute": "<b>red", "alignment": 1.5}]}}},
    "left_out": {"plausibility": "needs masks"},
}  # fmt: skip


def page(section, key, record):
    values = section.build(Content("t", Path("."), {}, **{key: record}))
    return render(f"sections/{key}.html", section=values)


def test_a_record_is_shown():
    assert measures.is_record(RECORD)
    text = page(measures, "measures", RECORD)
    assert "m ↓" in text
    assert "0.25" in text
    assert "–" in text
    assert "&lt;b&gt;red" in text
    assert "needs masks" in text
    assert measures.build(Content("t", Path("."), {})) is None


@pytest.mark.parametrize(
    "change",
    [
        {"measures": {"m": {"title": [], "better": [], "values": [["x"], None]}}},
        {"details": {"dense": {"alignment": {"features": [{"feature": []}]}}}},
        {"details": {"dense": {"alignment": {"features": [{"feature": 1, "attribute": {"a": 1}}]}}}},
        {"details": {"dense": {"alignment": 3}, "sparse": []}},
        {"split": {}, "images": None, "left_out": {"a": ["b"]}},
        {"stages": {}},
    ],
)
def test_odd_values_break_no_page(change):
    record = json.loads(json.dumps(RECORD | change))
    assert measures.is_record(record)
    assert page(measures, "measures", record)


@pytest.mark.parametrize(
    "change",
    [{"stages": []}, {"stages": {"dense": 1}}, {"stages": {"dense": {"m": "x"}}}, {"measures": {"m": 1}},
     {"left_out": []}, {"details": 1}, {"made_from": None}, {"stages": {"dense": {"m": float("inf")}}}],
)  # fmt: skip
def test_what_is_no_record(change):
    assert not measures.is_record(RECORD | change)


def test_a_probe_is_shown_and_odd_ones_break_nothing():
    mean = {"score_change": -1.5, "probability_change": -0.25, "changed": 0.5}
    region = {"images": 4, "mean": mean, "classes": {"owl": [-1.5, -0.25, 0.5], "wren": None}}
    record = {"made_from": {}, "fill": "mean", "regions": {"wing": region}}
    assert probe.is_record(record)
    text = page(probe, "probe", record)
    assert "-1.500" in text
    assert "owl" in text
    for change in ({"fill": []}, {"regions": {}}, {"regions": {"wing": region | {"mean": None}}},
                   {"regions": {"wing": region | {"classes": {"owl": [[], {}, "x"]}}}}):  # fmt: skip
        assert probe.is_record(record | change)
        assert page(probe, "probe", record | change)
    assert not probe.is_record(record | {"regions": {"wing": region | {"classes": {"owl": 1}}}})
