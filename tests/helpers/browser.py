"""A real browser, headless: Chromium of the system, driven by Playwright."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = os.environ.get("HANDFUL_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: apt-get install chromium, or HANDFUL_CHROMIUM=PATH"
)
#: Milliseconds that the browser has for anything, on however busy a machine.
PATIENCE = 300_000
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@contextmanager
def browser():
    """Chromium; the sandbox needs rights that a container has not."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE)
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def opened(chromium, path: Path, size=DESKTOP, scheme="light", **options):
    """A page of a file; what it requests and says is in `page.requests` and `page.messages`."""
    context = chromium.new_context(viewport=size, color_scheme=scheme, **options)
    context.set_default_timeout(PATIENCE)
    try:
        page = context.new_page()
        page.session = context.new_cdp_session(page)
        page.session.send("Performance.enable", {"timeDomain": "threadTicks"})  # of the processor, not of the clock
        page.requests, page.messages = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("console", lambda message: page.messages.append(message.text))
        page.on("pageerror", lambda error: page.messages.append(str(error)))
        page.goto(path.resolve().as_uri())
        yield page
    finally:
        context.close()


def computed(page) -> float:
    """Seconds of the processor that the page has taken so far: layout, styles and scripts."""
    found = page.session.send("Performance.getMetrics")["metrics"]
    return next(one["value"] for one in found if one["name"] == "TaskDuration")


def foreign(page) -> list[str]:
    """Requests for anything but the page itself and what it carries."""
    return [url for url in page.requests if not url.startswith("data:") and url.partition("#")[0] != page.url]


def overflow(page) -> int:
    """Pixels by which the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def screens(page) -> float:
    """Height of the page in windows."""
    return page.evaluate("document.documentElement.scrollHeight / innerHeight")


#: Rules of axe-core: those of WCAG 2.2 up to AA, and good practice, such as the order of headings.
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "rules": {"target-size": {"enabled": True}},
    "resultTypes": ["violations"],  # what passes is not described, which took a third of the time
}

#: Of parts that are alike the first ones stay: rows of a table, and what is of one class in one place.
_SHORTEN = """
    document.querySelectorAll('details').forEach(part => part.open = true)
    document.querySelectorAll('table').forEach(t => [...t.rows].slice(12).forEach(r => r.remove()))
    document.querySelectorAll('body *').forEach(place => {
        const seen = {}
        if (place.closest('tr, svg, select')) return
        for (const part of [...place.children].filter(c => c.className || c.matches('figure, li, a'))) {
            const kind = part.tagName + '.' + part.className
            if (part.matches('tr')) continue
            seen[kind] = (seen[kind] || 0) + 1
            if (seen[kind] > 8) part.remove()
        }
    })
"""


def barriers(page) -> list[str]:
    """What axe-core finds with all parts unfolded, as text; of many parts that are alike, in the first ones."""
    page.evaluate(f"() => {{{_SHORTEN}}}")
    from axe_playwright_python.sync_playwright import Axe

    return [
        f"{one['id']}: {one['nodes'][0]['html'][:160]} {one['nodes'][0].get('failureSummary', '')}"
        for one in Axe().run(page, options=RULES).response["violations"]
    ]
