"""The report of a run: pages of sections."""

from collections.abc import Mapping
from typing import Any

from handful.report.content import Content
from handful.report.page import render
from handful.report.sections import SECTIONS


def run_pages(content: Content) -> dict[str, str]:
    """Return the self-contained pages: file name → HTML; `index.html` is the first."""
    built = [(section, section.build(content)) for section in SECTIONS]
    shown = [(section, values) for section, values in built if values is not None]
    return {"index.html": render("run.html", title=content.title, facts=_facts(content.results), sections=shown)}


def _facts(results: Mapping[str, Any]) -> list[str]:
    data, versions = results.get("data", {}), results.get("versions", {})
    facts = [f"{data.get('name', '')}, {data['num_classes']} classes"] if "num_classes" in data else []
    splits = data.get("images") or data.get("splits") or {}
    facts += [", ".join(f"{count} {split}" for split, count in splits.items()) + " images"] if splits else []
    facts += [f"started from {results['weights']}"] if results.get("weights") else []
    facts += [" ".join(f"{name} {version}" for name, version in versions.items() if name in ("handful", "torch"))]
    return [fact for fact in facts if fact]
