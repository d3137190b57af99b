"""The page of `explain` in a real browser: every name can be read, nothing overflows or is out of reach."""

import pytest

from handful.report.explain_page import Pictures, explain_page
from tests.handful.report.test_explain_page import colour, record  # noqa: F401  a fixture
from tests.helpers.browser import DESKTOP, PHONE, barriers, browser, foreign, needs_chromium, opened, overflow

pytestmark = needs_chromium
FRAME = {"width": 300, "height": 600}  #: in a column of another page


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.mark.parametrize(
    ("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark"), (FRAME, "dark")]
)
def test_the_names_of_features_are_not_cut_off(chromium, record, tmp_path, size, scheme):  # noqa: F811
    record["feature_names"] = {"3": "yellow breast", "7": "a long and thick bill"}
    # bars without width begin where all others end
    record["contributions"] = [
        {"feature": 7, "value": 4.0, "weight": 0.5, "contribution": 2.0},
        {"feature": 3, "value": 0.5, "weight": 2.0, "contribution": 1.0},
        {"feature": 5, "value": 0.0, "weight": 2.0, "contribution": 0.0},
    ]
    record["explained"]["bias"] = 0.0
    pictures = Pictures(colour(0), {7: colour(1), 3: colour(2)}, {3: colour(3)}, {"cam": colour(4)})
    (tmp_path / "index.html").write_text(explain_page("Why", ["a fact"], [record], [pictures]), encoding="utf-8")
    with opened(chromium, tmp_path / "index.html", size, scheme) as page:
        cut = page.eval_on_selector_all(
            ".steps th[scope=row]",
            "cells => cells.filter(c => c.scrollWidth > c.clientWidth + 1).map(c => c.innerText)",
        )
        assert cut == []
        assert page.locator(".steps th[scope=row]").first.inner_text() == "yellow breast (3)"
        wider = page.eval_on_selector_all(".scroll", "all => all.filter(e => e.scrollWidth > e.clientWidth).length")
        assert wider == 0
        assert (overflow(page), foreign(page), page.messages, barriers(page)) == (0, [], [], [])
