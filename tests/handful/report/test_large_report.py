"""A report of 200 classes and 50 features, and one with 100 classes of photographs, in a real browser."""

import io
import os
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from handful.report.run_page import run_pages
from tests.helpers.browser import (
    DESKTOP,
    PHONE,
    barriers,
    browser,
    computed,
    foreign,
    needs_chromium,
    opened,
    overflow,
    screens,
)  # fmt: skip
from tests.helpers.large_report import SIDE, large_content

pytestmark = needs_chromium
#: A class of the synthetic run that has right and wrong test images.
SOME_CLASS = "class-057.html"
PAGES = ("index.html", "features.html", SOME_CLASS)
#: Every size and every scheme once under axe-core, seconds each; the report of photographs below has the other two.
_CROSSWISE = ((DESKTOP, "light"), (PHONE, "dark"))


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return large_content(tmp_path_factory.mktemp("large"), images_per_class=2)


@pytest.fixture(scope="module")
def folder(content):
    for name, page in run_pages(content).items():
        (content.folder / name).write_text(page)
    return content.folder


def test_there_is_a_page_per_class_and_all_of_it_is_small(folder):
    assert len(list(folder.glob("class-*.html"))) == 200
    assert sum(file.stat().st_size for file in folder.glob("*.html")) < 30e6
    assert (folder / "index.html").stat().st_size < 3e6


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    ("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")]
)
def test_pages_are_quick_quiet_and_no_longer_than_fifteen_screens(chromium, folder, name, size, scheme):
    with opened(chromium, folder / name, size, scheme) as page:
        assert computed(page) < 2
        assert screens(page) <= 15
        assert overflow(page) <= 0
        assert foreign(page) == []
        if (size, scheme) in _CROSSWISE:
            assert barriers(page) == []
        assert page.messages == []


def test_on_a_phone_the_features_of_a_class_are_seen_without_scrolling(chromium, folder):
    with opened(chromium, folder / "index.html", PHONE) as page:
        edges = page.eval_on_selector_all(
            "#class-table tbody tr:first-child .chip", "chips => chips.map(chip => chip.getBoundingClientRect().right)"
        )
        assert edges
        assert max(edges) <= PHONE["width"]


def test_hovering_says_class_feature_and_the_weight_of_the_checkpoint(chromium, content, folder):
    weight = content.deciding.model.head.weight
    selection = content.deciding.model.head.selection.tolist()
    with opened(chromium, folder / "index.html") as page:
        cells = page.eval_on_selector_all(
            "#w td.w",
            "cells => cells.map(c => [c.parentElement.cells[0].dataset.label,"
            " c.closest('table').tHead.rows[0].cells[c.cellIndex].textContent, c.dataset.v])",
        )
        assert len(cells) == int((weight != 0).sum())
        for name, feature, value in cells:
            exact = weight[content.deciding.names.index(name), selection.index(int(feature))]
            assert float(value) == pytest.approx(float(exact), rel=1e-5)
        page.locator("#w td.w").first.hover()
        name, feature, value = cells[0]
        assert page.locator("#tip").text_content() == f"{name} · feature {feature} · {float(value):+.2f}"


def test_sorting_by_a_heading_puts_the_largest_first_and_then_the_smallest(chromium, folder):
    column = "[...document.querySelectorAll('#w tbody tr')].map(r => r.cells[2].dataset.v).filter(v => v).map(Number)"
    with opened(chromium, folder / "index.html") as page:
        heading = page.locator("#w thead th:nth-child(3)")
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == "descending"
        found = page.evaluate(column)
        assert found == sorted(found, reverse=True)
        assert page.evaluate("document.querySelector('#w tbody tr').cells[2].dataset.v") == page.evaluate(
            f"String(Math.max(...{column}))"
        )
        heading.locator("button").press("Enter")
        found = page.evaluate(column)
        assert heading.get_attribute("aria-sort") == "ascending"
        assert found == sorted(found)
        page.locator("#w thead th").first.locator("button").click()
        names = page.eval_on_selector_all("#w tbody th", "cells => cells.map(c => c.dataset.label)")
        assert names == sorted(names)


def test_filtering_by_class_and_by_feature(chromium, content, folder):
    with opened(chromium, folder / "index.html") as page:
        rows = "[...document.querySelectorAll('#w tbody tr')].filter(r => !r.hidden)"
        shown = f"{rows}.map(r => r.cells[0].dataset.label)"
        page.fill("#w-class", "kind 117")
        assert page.evaluate(shown) == ["117.Sparrow of the kind 117"]
        columns = page.evaluate("[...document.querySelectorAll('#w thead th')].filter(h => !h.hidden).length - 2")
        assert columns == len(content.deciding.weights_in(117)) == 5
        assert page.locator("#w-count").text_content() == "1 class, 5 features"
        page.click("#w-clear")
        assert len(page.evaluate(shown)) == 200
        page.select_option("#w-feature", index=1)
        assert set(page.evaluate(shown)) == set(content.deciding.weights_of(content.deciding.used[0]))
        page.fill("[data-filters='#class-table tbody tr']", "042.Sparrow")
        assert page.locator("#class-table tbody tr:visible").first.locator("th").inner_text().startswith("042")
        assert page.locator("#class-table tbody tr:visible").count() < 20


def test_the_keyboard_moves_over_the_weights(chromium, content, folder):
    with opened(chromium, folder / "index.html") as page:
        page.locator("#w tbody td[tabindex]").focus()
        for key in ("ArrowDown", "ArrowRight", "End", "ArrowDown", "Home"):
            page.keyboard.press(key)
        names, used = content.deciding.names, content.deciding.used
        assert page.locator("#tip").text_content().startswith(f"{names[2]} · feature {used[0]} · ")
        assert page.evaluate("document.activeElement.getBoundingClientRect().width > 0")


def test_a_decision_adds_up_as_displayed(chromium, folder):
    for name in ("index.html", SOME_CLASS):
        with opened(chromium, folder / name) as page:
            found = page.eval_on_selector_all(
                ".steps", "tables => tables.map(t => [...t.querySelectorAll('td.n')].map(c => c.textContent))"
            )
            assert found
            for numbers in found:
                *parts, total = (round(100 * float(number)) for number in numbers)
                assert sum(parts) == total


def test_without_scripts_the_weights_are_still_a_table(chromium, content, folder):
    with opened(chromium, folder / "index.html", java_script_enabled=False) as page:
        assert page.locator("#w tbody tr").count() == 200
        assert page.locator("#w td.w").first.inner_text()[0] in "+-"
        assert page.locator("#w-class").is_hidden()


@pytest.mark.skipif("HANDFUL_DATA" not in os.environ, reason="HANDFUL_DATA is not set")
def test_a_hundred_classes_of_photographs(chromium, tmp_path):
    archive = Path(os.environ["HANDFUL_DATA"]) / "cub100.zip"
    if not archive.is_file():
        pytest.skip(f"{archive} is not there")
    pictures, names = photographs(archive, 1)
    content = large_content(tmp_path, classes=100, pictures=pictures)
    content.deciding.names[:] = names
    for name, page in run_pages(content).items():
        (tmp_path / name).write_text(page)
    for size, scheme in ((DESKTOP, "dark"), (PHONE, "light")):
        for name in (*PAGES[:2], "class-012.html"):
            with opened(chromium, tmp_path / name, size, scheme) as page:
                assert screens(page) <= 15
                assert (overflow(page), foreign(page), page.messages, barriers(page)) == (0, [], [], [])


def photographs(archive: Path, count: int):
    """Some test photographs of every class, as the network gets them, and the names of the classes."""
    with zipfile.ZipFile(archive) as files:
        members = sorted(name for name in files.namelist() if "test/" in name and name.endswith(".jpg"))
        names = sorted({name.split("/")[-2] for name in members})
        found = []
        for name in names:
            own = [member for member in members if member.split("/")[-2] == name][:count]
            for member in own:
                with Image.open(io.BytesIO(files.read(member))) as image:
                    small = bytearray(image.convert("RGB").resize((SIDE, SIDE)).tobytes())
                pixels = torch.frombuffer(small, dtype=torch.uint8).view(SIDE, SIDE, 3)
                found.append((pixels.permute(2, 0, 1) / 255 - 0.5) / 0.25)
    return found, names
