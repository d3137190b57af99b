"""The index of many explanations, a comparison of runs, and an explanation in a notebook's cell, in a real browser."""

import json

import numpy as np
import pytest
import torch

from handful import Inputs, build_classifier, explain
from handful.report.explain_page import Entry, index_page
from pipelines.compare import compare
from tests.helpers.browser import (
    DESKTOP,
    PHONE,
    barriers,
    browser,
    foreign,
    needs_chromium,
    opened,
    overflow,
    screens,
)
from tests.helpers.finished_run import write_run

pytestmark = needs_chromium
LOOKS = [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")]


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Files by kind of page."""
    folder = tmp_path_factory.mktemp("pages")
    thumbnail = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    entries = [
        Entry(f"Golden_winged_Warbler/a_rather_long_name_of_a_picture_{number:04d}.jpg", f"index-1.html#{number}",
              thumbnail, ("Yellow_headed_Blackbird", 0.1 + number / 200), number % 3 > 0, "Golden_winged_Warbler")
        for number in range(120)
    ]  # fmt: skip
    (folder / "explain.html").write_text(index_page("Why", ["cub100", "finetune"], entries), encoding="utf-8")
    runs = []
    for name in ("a_run_with_a_long_name_of_its_own", "another"):
        (folder / name).mkdir()
        runs.append(str(write_run(folder / name)))
        measured = {f"measure_{number}": number / 7 for number in range(30)}
        row = {"accuracy": 86.3, "balanced_accuracy": 86.1, "loss": 0.5, "n_features": 50, "features_per_class": 5.0}
        data = {"name": "birds", "num_classes": 3, "images": {"train": 12, "test": 6}}
        results = {"stages": {"finetuned": row | measured}, "data": data, "seconds": {"finetune": 5.0}}
        (folder / name / "results.json").write_text(json.dumps(results))
    return {"index of explanations": folder / "explain.html", "comparison": compare(runs, out=str(folder / "compared"))}


@pytest.mark.parametrize("kind", ["index of explanations", "comparison"])
@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_pages_are_for_everybody_and_no_longer_than_fifteen_screens(chromium, pages, kind, size, scheme):
    with opened(chromium, pages[kind], size, scheme) as page:
        assert screens(page) <= 15
        assert (overflow(page), foreign(page), page.messages, barriers(page)) == (0, [], [], [])


@pytest.mark.parametrize(("size", "scheme"), [LOOKS[0], LOOKS[3]])
def test_an_explanation_in_a_notebook_is_as_high_as_it_is(chromium, tmp_path, size, scheme):
    torch.manual_seed(0)
    model = build_classifier({"backbone": "cifar_resnet20", "options": {"width": 4}}, 3).eval()
    model.inputs = Inputs(["crow", 'a "quoted" <owl>', "wren"], 24, (0.5,) * 3, (0.25,) * 3)
    model.feature_names = {0: "dark head & \"bill\""}
    why = explain(model, np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8), target=1)
    cell = tmp_path / "cell.html"
    text = f"<!doctype html><html lang=en><title>cell</title><main><h1>a notebook</h1>{why._repr_html_()}</main></html>"
    cell.write_text(text, encoding="utf-8")
    with opened(chromium, cell, size, scheme) as page:
        inside = page.frame_locator("iframe")
        assert inside.locator("h1").inner_text() == f"Why {why.prediction.name}"
        assert page.get_attribute("iframe", "title") == f"Why {why.prediction.name}"
        hidden = page.evaluate(
            "(f => [f.contentDocument.documentElement.scrollHeight - f.clientHeight,"
            " f.contentDocument.documentElement.scrollWidth - f.clientWidth])(document.querySelector('iframe'))"
        )
        assert max(hidden) <= 1
        assert f"{why.explained.logit:+.2f}" in inside.locator(".steps td.n").all_inner_texts()
        assert page.messages == []
