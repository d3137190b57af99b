"""The page of `explain`: every number, colour and picture where it belongs."""

import re

import pytest
from PIL import Image

from handful.report.explain_page import Pictures, explain_page
from handful.report.overlays import data_uri


def colour(number):
    return Image.new("RGB", (8, 8), (number, 255 - number, 40))


@pytest.fixture
def record():
    """A wren that was asked for, though the model says robin: not one number is like another."""
    wren = {"class": "wr<en", "probability": 0.25, "logit": -1.5, "bias": 0.125}
    return {
        "name": "a.png",
        "predicted": {"class": "ro<bin", "probability": 0.625, "logit": 2.0},
        "explained": wren,
        "top": [
            {"class": "ro<bin", "probability": 0.625, "logit": 2.0},
            {"class": "wr<en", "probability": 0.25, "logit": -1.5},
        ],
        "contributions": [
            {"feature": 7, "value": 4.0, "weight": -0.5, "contribution": -2.0},
            {"feature": 3, "value": 0.5, "weight": 2.0, "contribution": 1.0},
            {"feature": 5, "value": 3.0, "weight": -0.25, "contribution": -0.75},
            {"feature": 9, "value": 1.0, "weight": 0.125, "contribution": 0.125},
        ],
        "runner_up": {
            "class": "ro<bin", "probability": 0.625, "logit": 2.0, "lead": -3.5, "bias_lead": 0.375,
            "features": [{"feature": 3, "lead": -2.5}, {"feature": 7, "lead": -1.375}],
            "would_tie": [{"feature": 3, "value": 0.5, "needed": 6.5}],
        },
        "methods": {
            "cam": {"title": "CAM", "score": -1.5, "completeness": 0.001},
            "ig": {"title": "gradients along a path", "score": -1.5, "completeness": -0.25},
            "lime": {"title": "LIME", "score": -1.5},
        },
    }  # fmt: skip


@pytest.fixture
def page(record):
    features, lead = {7: colour(10), 3: colour(20)}, {3: colour(30), 7: colour(40)}
    methods = {"cam": colour(50), "ig": colour(60), "lime": colour(70)}
    return explain_page("Why", ["a fact"], [record], [Pictures(colour(0), features, lead, methods)])


def rows(table):
    """A table of contributions: what its cells say, and the bar."""
    for row in re.findall(r"<tr[^>]*>(<th scope=\"row\">.*?)</tr>", table):
        cells = re.findall(r"<t[dh](?: scope=\"row\"| class=\"n\")?>([^<]*)</t[dh]>", row)
        bar = re.search(r'<i class="(\w+)" style="left:([\d.]+)%;width:([\d.]+)%"', row)
        yield cells, (float(bar[2]), float(bar[3]), bar[1])


def test_the_table_adds_up_to_the_score_and_each_bar_begins_where_the_last_ends(page):
    tables = re.findall(r'<table class="steps">(.*?)</table>', page, re.DOTALL)
    lead, contributions = (list(rows(table)) for table in tables)
    assert contributions == [
        (["feature 7", "4", "-0.5", "-2.00"], (0, 100, "against")),
        (["feature 3", "0.5", "2", "+1.00"], (0, 50, "for")),
        (["2 other features", "", "", "-0.62"], (19, 31, "against")),
        (["bias", "", "", "+0.12"], (19, 6, "for")),
        (["score (logit)", "", "", "-1.50"], (25, 75, "whole")),
    ]
    assert [cells for cells, _ in lead] == [
        ["feature 3", "-2.50"], ["feature 7", "-1.37"], ["biases", "+0.37"], ["lead", "-3.50"]
    ]  # fmt: skip


def test_features_are_called_by_the_names_that_a_person_gave_them(record):
    record["feature_names"] = {"7": "red <eye>"}
    page = explain_page("Why", [], [record], [Pictures(colour(0), {7: colour(1)})])
    assert page.count('<th scope="row">red &lt;eye&gt; (7)</th>') == 2
    assert "<figcaption><b>red &lt;eye&gt; (7)</b>" in page


def test_features_that_add_next_to_nothing_to_the_lead_are_one_row(record):
    record["runner_up"]["features"] += [{"feature": 8, "lead": 0.004}, {"feature": 9, "lead": 0.0}]
    page = explain_page("Why", [], [record], [Pictures(colour(0))])
    lead = list(rows(re.findall(r'<table class="steps">(.*?)</table>', page, re.DOTALL)[0]))
    assert [cells[0] for cells, _ in lead] == ["feature 3", "feature 7", "2 other features", "biases", "lead"]


def test_the_truth_is_marked(record):
    assert "✗" not in explain_page("Why", [], [record], [Pictures(colour(0))])
    for right, mark in ((True, "✓"), (False, "✗")):
        page = explain_page("Why", [], [record | {"true": "owl", "correct": right}], [Pictures(colour(0))])
        assert f'{mark}</span> <bdi>ro&lt;bin</bdi>' in page


def test_each_probability_stands_with_its_class(page):
    assert "<h2><bdi>ro&lt;bin</bdi> <small>62.5 %</small></h2>" in page
    assert "Explained here: <b><bdi>wr&lt;en</bdi></b> 25.0 %, as asked for." in page
    why_not = "Why not <bdi>wr&lt;en</bdi>? Ahead is <bdi>ro&lt;bin</bdi>"
    assert f'<h3>{why_not} <span class="soft">62.5 %</span></h3>' in page
    assert '<span><bdi>wr&lt;en</bdi></span><div><i style="width:25.0%"></i></div><span>25.0 %</span>' in page
    assert not re.search("wr<en|ro<bin", page)


def test_a_class_that_is_behind_trails_and_what_would_tie_is_reported(page, record):
    assert "<bdi>wr&lt;en</bdi> trails by 3.50." in page
    assert "feature 3 at <b>6.5</b> instead of 0.5" in page
    record["runner_up"] |= {"lead": 3.5, "would_tie": []}
    ahead = explain_page("Why", [], [record], [Pictures(colour(0))])
    assert "<bdi>wr&lt;en</bdi> leads by 3.50." in ahead
    assert "No single feature could make the two level." in ahead


def test_pictures_stand_over_their_own_captions(page):
    image = r'<figure><img loading="lazy" width="8" height="8" alt="[^"]+" src="(.*?)">'
    figures = re.findall(image + "<figcaption>(.*?)</figcaption>", page)
    expected = [
        (30, "<b>feature 3</b><br>-2.50"), (40, "<b>feature 7</b><br>-1.37"),
        (10, "<b>feature 7</b><br>w·f = -2.00"), (20, "<b>feature 3</b><br>w·f = +1.00"),
        (50, "<b>CAM</b><br>adds up"), (60, "<b>gradients along a path</b><br>adds up but for -0.25"),
        (70, "<b>LIME</b>"),
    ]  # fmt: skip
    assert figures == [(data_uri(colour(number), "JPEG"), caption) for number, caption in expected]
    assert f'<img alt="a.png, as the model saw it" src="{data_uri(colour(0), "JPEG")}">' in page


def test_a_number_under_a_picture_is_that_of_its_row(record):
    """Rows are rounded so that they add up; the same number beneath a picture is not rounded another way."""
    third = 1 / 3
    record["explained"] |= {"bias": 0.0}
    parts = [{"feature": feature, "value": third, "weight": 1.0, "contribution": third} for feature in (7, 3, 5)]
    leads = [{"feature": feature, "lead": -third} for feature in (7, 3, 5)]
    record |= {"contributions": parts, "runner_up": record["runner_up"] | {"bias_lead": 0.0, "features": leads}}
    drawn = {feature: colour(10 * feature) for feature in (7, 3, 5)}
    page = explain_page("Why", [], [record], [Pictures(colour(0), drawn, drawn)])
    assert re.findall(r"w·f = (\S+)</figcaption>", page) == ["+0.34", "+0.33", "+0.33"]
    below = re.findall(r"<br>(-0\.3\d)</figcaption>", page)
    lead = page.partition("adds to its lead")[2].partition("</table>")[0]
    assert below == re.findall(r'class="n">(-0\.3\d)<', lead)
    assert sorted(below) == ["-0.33", "-0.33", "-0.34"]


def test_the_predicted_class_is_not_named_twice(record):
    record["explained"] = record["predicted"] | {"bias": 0.0}
    assert "Explained here" not in explain_page("Why", [], [record], [Pictures(colour(0))])


def test_no_text_becomes_markup_or_keeps_control_characters(record):
    hostile = "<i>\u202e\x1b[1m\n{{ 7*7 }}"
    record["methods"]["cam"]["title"] = record["name"] = record["predicted"]["class"] = hostile
    shown = Pictures(colour(0), {}, {}, {"cam": colour(50)})
    page = explain_page(hostile, [hostile], [record] * 4, [shown] * 4, {hostile: "index-2.html"})
    assert page.count("&lt;i&gt;\\u202e\\x1b[1m\\n{{ 7*7 }}") >= 12
    assert not set(page) & set("\u202e\x1b")
    assert "<i>" not in page


def test_the_steps_to_a_class_end_where_it_is_alone(record):
    """A picture for each step with the classes that are left, by name where they are few; and a set in words."""
    record["hierarchy"] = [
        {"feature": 7, "value": 3.5, "classes": ["ro<bin", "jay", "owl", "kite", "wren", "tit"]},
        {"feature": 3, "value": 2.25, "classes": ["ro<bin", "jay"]},
        {"feature": 5, "value": 1.0, "classes": ["ro<bin"]},
        {"feature": 9, "value": 0.5, "classes": ["ro<bin"]},
    ]
    record["hierarchy_in_words"] = "9 classes → feature 7: 6"
    record["feature_names"] = {"3": "red breast"}
    record["possible"] = {"coverage": 0.9, "classes": ["ro<bin"], "in_words": "ro<bin alone (90 %), by feature 7"}
    shown = Pictures(colour(0), {}, {}, {}, steps={feature: colour(60 + feature) for feature in (7, 3, 5, 9)})
    record["contributions"] = []
    page = explain_page("Why", [], [record], [shown])
    path = page.partition('<ol class="path">')[2].partition("</ol>")[0]
    assert path.count("<li>") == 4
    assert "<b>6 classes</b>: <bdi>ro&lt;bin</bdi>, <bdi>jay</bdi>, <bdi>owl</bdi>, <bdi>kite</bdi>, 2 more" in path
    assert "<b>red breast (3)</b> +2.2" in path
    assert path.count("alone") == 1
    for feature in (7, 3, 5):
        assert data_uri(shown.steps[feature], "JPEG") in path
    assert "ro&lt;bin alone (90 %), by feature 7" in page
    assert "9 classes → feature 7: 6" in page
