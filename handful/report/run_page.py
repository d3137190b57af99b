"""The report of a run: a page of sections; where there are many classes, a page per class and one of all features."""

from collections.abc import Mapping
from typing import Any

from handful.explain.local import confident_errors, confident_hits, decisions
from handful.progress import tracked
from handful.report.cards import ClassRow
from handful.report.content import Content, class_page_name
from handful.report.page import render, script_values
from handful.report.sections import SECTIONS
from handful.report.sections.classes import class_weights
from handful.report.sections.decisions import cards
from handful.report.sections.pairs import pair, similarity

#: Splits in words, in the order in which they are listed.
_SPLITS = {"train": "training", "val": "validation", "test": "test"}

#: Classes that a class's page compares with.
_ALIKE = 3


def run_pages(content: Content) -> dict[str, str]:
    """Return the self-contained pages: file name → HTML; `index.html` is the first."""
    built = [(section, section.build(content)) for section in SECTIONS]
    shown = [(section, values) for section, values in built if values is not None]
    index = _render("run.html", title=content.title, facts=_facts(content.results), sections=shown)
    pages = {"index.html": index}
    if content.many:
        features = {section.key: values for section, values in shown}.get("features")
        if features is not None:
            pages["features.html"] = _render(
                "features_page.html", title=f"{content.title}: features", section=features
            )
        pages |= _class_pages(content, features)
    return pages


def _render(template: str, **values: Any) -> str:
    return render(template, **script_values("report.js"), **values)


def _class_pages(content: Content, features: Mapping[str, Any] | None) -> dict[str, str]:
    deciding = content.deciding
    assert deciding is not None
    says = {card["number"]: _says(card) for card in features["all"]} if features else {}
    alike = similarity(deciding).fill_diagonal_(-1) if content.few else None
    rows = deciding.classes()
    pages = {}
    for label, row in enumerate(tracked(rows, "pages of the classes", "pages")):
        weights = class_weights(content, row.features) if content.few else []
        for weight, feature in zip(weights, row.features if weights else (), strict=True):
            weight["says"] = says.get(feature, "")
        near = [] if alike is None else alike[label].topk(min(_ALIKE, len(rows) - 1))
        pages[class_page_name(label)] = _render(
            "class_page.html",
            title=row.name,
            row=row,
            weights=weights,
            cards=_decisions(content, label),
            alike=[pair(content, label, int(i), float(v)) for v, i in zip(*near, strict=True) if v > 0] if near else [],
            previous=_neighbour(rows, label - 1),
            next=_neighbour(rows, label + 1),
        )
    return pages


def _decisions(content: Content, label: int) -> list[dict[str, Any]]:
    """The most confident right decision of a class, and its most confident error."""
    deciding, images = content.deciding, content.dataset
    if deciding is None or images is None or content.inputs is None:
        return []
    chosen = [*confident_errors(deciding, 1, label), *confident_hits(deciding, 1, label)]
    return cards(content, decisions(deciding, images, chosen))


def _says(card: Mapping[str, Any]) -> str:
    """What a feature is, in one line."""
    words = []
    if card["follows"] is not None:
        words.append(f"follows {card['follows'].name} (r = {card['follows'].correlation:+.2f})")
    if card["lies_on"] is not None:
        words.append(f"lies on {card['lies_on'].name} ({100 * card['lies_on'].share:.0f} %)")
    return ", ".join(words)


def _neighbour(rows: list[ClassRow], label: int) -> tuple[str, str] | None:
    return (rows[label].name, class_page_name(label)) if 0 <= label < len(rows) else None


def _facts(results: Mapping[str, Any]) -> list[str]:
    data, versions = results.get("data", {}), results.get("versions", {})
    facts = [f"{data.get('name', '')}, {data['num_classes']} classes"] if "num_classes" in data else []
    splits = data.get("images") or data.get("splits") or {}
    counted = [f"{splits[split]:,} {words}" for split, words in _SPLITS.items() if split in splits]
    facts += [", ".join(counted) + " images"] if counted else []
    facts += [f"started from {results['weights']}"] if results.get("weights") else []
    facts += [" ".join(f"{name} {version}" for name, version in versions.items() if name in ("handful", "torch"))]
    return [fact for fact in facts if fact]
