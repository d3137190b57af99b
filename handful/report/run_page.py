"""The report of a run: what it reached and cost, what its features look at, which of them decide each class."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from handful.report.page import figure_tag, html_page, image_tag

#: Classes that a feature's heading names on each side.
_NAMED = 6


@dataclass
class FeatureCard:
    """One feature that decides.

    Attributes:
        number: of the feature in the backbone.
        effects: class name → what one standard deviation more of the feature adds to the class's logit.
        pictures: the images where it is largest, as they are and with the feature's map, and their class.
    """

    number: int
    effects: dict[str, float]
    pictures: list[tuple[Image.Image, Image.Image, str]] = field(default_factory=list)


@dataclass
class ClassRow:
    """One class.

    Attributes:
        name: of the class.
        images: how many test images it has.
        accuracy: share of them that are recognised, in per cent.
        features: feature number → effect, see `FeatureCard`.
        mistaken: the class that it is mistaken for most often, and the share of its images in per cent.
    """

    name: str
    images: int
    accuracy: float
    features: dict[int, float]
    mistaken: tuple[str, float] | None = None


def run_page(
    title: str,
    results: Mapping[str, Any],
    stage_table: tuple[Sequence[str], Sequence[Sequence[str]]],
    config: str,
    features: Sequence[FeatureCard] = (),
    classes: Sequence[ClassRow] = (),
    figures: Mapping[str, Figure] | None = None,
    explained: str = "",
) -> str:
    """The page as HTML text; needs nothing but itself.

    Args:
        title: of the page.
        results: the content of `results.json`.
        stage_table: column names, and the cells of every row.
        config: the run's configuration as text.
        features: those that decide, most used first.
        classes: in the order of their labels.
        figures: heading → figure.
        explained: the phase whose classifier the features and classes are those of.
    """
    sections = {"Stages": _stages(*stage_table) + _cost(results)}
    if features:
        sections["Features"] = _features(features, explained)
    if classes:
        sections["Classes"] = _classes(classes)
    for heading, figure in (figures or {}).items():
        sections[heading] = figure_tag(figure, heading)
    sections["Configuration"] = f"<details><summary>config.yaml</summary><pre>{html.escape(config)}</pre></details>"
    links = "".join(f'<a href="#{_anchor(heading)}">{html.escape(heading)}</a>' for heading in sections)
    body = "\n".join(
        f'<article id="{_anchor(heading)}"><h2>{html.escape(heading)}</h2>{content}</article>'
        for heading, content in sections.items()
    )
    return html_page(title, f"<p>{_facts(results)}</p><nav>{links}</nav>", body, _STYLE)


_STYLE = """
h2{margin-bottom:10px} h3{margin:20px 0 4px} p{margin:6px 0}
pre{font-size:12.5px;overflow-x:auto;background:var(--back);padding:12px;border-radius:8px} summary{cursor:pointer}
.feature{border-top:1px solid var(--line);padding:4px 0 14px} .feature:first-of-type{border-top:0}
.pair{width:208px}.pair div{display:flex;gap:2px}.pair img{width:103px;border-radius:4px}
.sides{font-size:13px;color:var(--soft);margin-bottom:8px} td.chips{min-width:300px} .narrow{max-width:520px}
.chip{display:inline-block;border-radius:9px;padding:0 8px;margin:1px 4px 1px 0;font-size:12.5px;color:#fff}
.classes td,.classes th{text-align:left;white-space:normal;vertical-align:top}
.classes td{border-top:1px solid var(--line)}
td.n{text-align:right;white-space:nowrap}
"""


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def _facts(results: Mapping[str, Any]) -> str:
    data, versions = results.get("data", {}), results.get("versions", {})
    facts = [f"{data.get('name', '')}, {data['num_classes']} classes"] if "num_classes" in data else []
    splits = data.get("images") or data.get("splits") or {}
    facts += [", ".join(f"{count} {split}" for split, count in splits.items()) + " images"] if splits else []
    facts += [" ".join(f"{name} {version}" for name, version in versions.items() if name in ("handful", "torch"))]
    return " · ".join(html.escape(fact) for fact in facts if fact)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _stages(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return '<p class="soft">No stage has been evaluated.</p>'
    return _table(columns, rows) + '<p class="soft">Test images; accuracy in per cent.</p>'


def _cost(results: Mapping[str, Any]) -> str:
    seconds, memory = results.get("seconds", {}), results.get("peak_memory_mib", {})
    rows = [[name, f"{spent:.1f}", f"{memory.get(name, float('nan')):.0f}"] for name, spent in seconds.items()]
    table = _table(["phase", "seconds", "peak memory, MiB"], rows)
    return f'<h3>What it cost</h3><div class="narrow">{table}</div>' if rows else ""


def _features(cards: Sequence[FeatureCard], explained: str) -> str:
    intro = (
        f"<p>The {len(cards)} features that decide in {html.escape(explained)}, those of most classes first; each with "
        "the test images where it is largest, and where it looks there. The numbers say what one standard deviation "
        "more of the feature adds to a class's score.</p>"
    )
    return intro + "".join(_feature(card) for card in cards)


def _feature(card: FeatureCard) -> str:
    order = sorted(card.effects.items(), key=lambda pair: -abs(pair[1]))
    sides = []
    for words, chosen in (
        ("speaks for", [p for p in order if p[1] > 0]),
        ("against", [p for p in order if p[1] < 0]),
    ):
        if chosen:
            named = " ".join(_chip(f"{name} {_number(effect)}", effect) for name, effect in chosen[:_NAMED])
            more = f" and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else ""
            sides.append(f"<div>{words} {named}{more}</div>")
    pairs = "".join(
        f'<figure class="pair"><div>{image_tag(plain, name)}{image_tag(lit)}</div>'
        f"<figcaption>{_breakable(name)}</figcaption></figure>"
        for plain, lit, name in card.pictures
    )
    return (
        f'<div class="feature" id="feature-{card.number}"><h3>feature {card.number}</h3>'
        f'<div class="sides">{"".join(sides)}</div><div class="row">{pairs}</div></div>'
    )


def _chip(text: str, effect: float, link: str = "") -> str:
    colour = "for" if effect > 0 else "against"
    chip = f'<span class="chip {colour}">{html.escape(text)}</span>'
    return f'<a href="{link}">{chip}</a>' if link else chip


def _number(effect: float) -> str:
    return f"{effect:+.2f}" if abs(effect) >= 0.005 else f"{effect:+.0e}"


def _breakable(name: str) -> str:
    """A name that may be broken after its underscores."""
    return html.escape(name).replace("_", "_<wbr>")


def _classes(rows: Sequence[ClassRow]) -> str:
    lines = []
    for row in rows:
        chips = "".join(
            _chip(f"{number}: {_number(effect)}", effect, f"#feature-{number}")
            for number, effect in sorted(row.features.items(), key=lambda pair: -abs(pair[1]))
        )
        mistaken = "–" if row.mistaken is None else f"{_breakable(row.mistaken[0])}, {row.mistaken[1]:.1f} %"
        accuracy = f"{row.accuracy:.1f} %" if row.images else "–"
        lines.append(
            f'<tr><td>{_breakable(row.name)}</td><td class="n">{row.images}</td><td class="n">{accuracy}</td>'
            f'<td class="chips">{chips}</td><td>{mistaken}</td></tr>'
        )
    return (
        '<div class="scroll"><table class="classes"><tr><th>class</th><th>test images</th><th>recognised</th>'
        "<th>decided by (feature: effect)</th><th>most often taken for</th></tr>" + "".join(lines) + "</table></div>"
    )
