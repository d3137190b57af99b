"""The page of `explain`: why the model decided as it did about a person's own pictures, in one HTML file."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from handful.report.overlays import data_uri
from handful.report.page import html_page


@dataclass
class Pictures:
    """The pictures that belong to one image's record.

    Attributes:
        image: as the model saw it.
        features: feature → where it looked, for the explained class.
        lead: feature → where it spoke for the explained class and against the runner-up.
        methods: method → its map.
        repeated: features that part the two classes with the very picture that `features` holds.
    """

    image: Image.Image
    features: dict[int, Image.Image] = field(default_factory=dict)
    lead: dict[int, Image.Image] = field(default_factory=dict)
    methods: dict[str, Image.Image] = field(default_factory=dict)
    repeated: list[int] = field(default_factory=list)


def explain_page(
    title: str,
    facts: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    pictures: Sequence[Pictures],
    other_pages: Mapping[str, str] | None = None,
) -> str:
    """The page as HTML text; needs nothing but itself.

    Args:
        title: of the page.
        facts: short statements about the model, shown beneath the title.
        records: one an image, as `explain.json` holds them.
        pictures: of the same images.
        other_pages: text → address of the pages with further images.
    """
    pairs = zip(records, pictures, strict=True)
    cards = "\n".join(_card(number, record, shown) for number, (record, shown) in enumerate(pairs))
    stated = " · ".join(html.escape(fact) for fact in facts)
    links = " ".join(f'<a href="#{number}">{html.escape(record["name"])}</a>' for number, record in enumerate(records))
    contents = f"<nav>{links}</nav>" if len(records) > 3 else ""
    if other_pages:
        others = " ".join(f'<a href="{address}">{html.escape(text)}</a>' for text, address in other_pages.items())
        contents = f"<nav>further pages: {others}</nav>{contents}"
    return html_page(title, f"<p>{stated}</p>{_KEY}{contents}", cards, _STYLE)


#: What a map's sum misses is told from this share of the score on.
TOLD = 1e-3

_KEY = (
    '<p class="key"><span class="for"></span> speaks for the class <span class="against"></span> speaks against it '
    '<span class="heat"></span> mattered, whichever way. A contribution is weight × feature; with the bias, the '
    "contributions add up to the class's score (its logit).</p>"
)

_STYLE = """
.top{display:flex;gap:24px;flex-wrap:wrap}.top>img{width:224px;border-radius:8px}.top>div{flex:1;min-width:280px}
td.bar{width:45%;padding-right:0}
.bar div{position:relative;height:13px;background:linear-gradient(var(--line),var(--line)) 50%/1px 100% no-repeat}
.bar i{position:absolute;top:0;height:13px;border-radius:2px}
.p{display:grid;grid-template-columns:minmax(90px,auto) 1fr auto;gap:2px 10px;align-items:center;font-size:14px}
.p span{white-space:nowrap} .p div{background:var(--line);border-radius:3px;height:10px}
.p i{display:block;height:10px;border-radius:3px;background:#5b6270}
.sum td{border-top:1px solid var(--line);font-weight:600} ul{margin:6px 0;padding-left:20px}
"""


def _card(number: int, record: Mapping[str, Any], shown: Pictures) -> str:
    explained, predicted = record["explained"], record["predicted"]
    name = html.escape(predicted["class"])
    head = f"<h2>{name} <small>{100 * predicted['probability']:.1f} %</small></h2>"
    if "true" in record:
        verdict = "correct" if record["correct"] else "not correct"
        head += f"<p>True class: <b>{html.escape(record['true'])}</b>, {verdict}.</p>"
    if explained["class"] != predicted["class"]:
        head += f"<p>Explained here: <b>{html.escape(explained['class'])}</b>, as asked for.</p>"
    chances = "".join(
        f"<span>{html.escape(one['class'])}</span><div><i style='width:{100 * one['probability']:.1f}%'></i></div>"
        f"<span>{100 * one['probability']:.1f} %</span>"
        for one in record["top"]
    )
    parts = [
        f'<div class="top"><img alt="{html.escape(record["name"])}" src="{_source(shown.image)}"><div>{head}'
        f'<p class="soft">{html.escape(record["name"])}</p><div class="p">{chances}</div></div></div>'
    ]
    if "contributions" in record:
        parts += [_decided(record, shown), _runner_up(record, shown)]
    if shown.methods:
        parts.append(f"<h3>Where it looked for {html.escape(explained['class'])}</h3>{_methods(record, shown)}")
    return f'<article id="{number}">{"".join(parts)}</article>'


def _decided(record: Mapping[str, Any], shown: Pictures) -> str:
    """The table of contributions, and where each feature looked."""
    explained = record["explained"]
    listed = [part for part in record["contributions"] if part["feature"] in shown.features]
    others = record["contributions"][len(listed) :]
    rest = sum(part["contribution"] for part in others)
    rows = [
        (f"feature {part['feature']}", f"{part['value']:.3g}", f"{part['weight']:.3g}", part["contribution"])
        for part in listed
    ]
    if others:
        noun = "feature" if len(others) == 1 else "features"
        rows.append((f"{len(others)} other {noun}", "", "", rest))
    rows.append(("bias", "", "", explained["bias"]))
    largest = max(abs(row[3]) for row in rows) or 1.0
    body = "".join(
        f"<tr><td>{label}</td><td>{value}</td><td>{weight}</td><td>{number:+.2f}</td>{_bar(number / largest)}</tr>"
        for label, value, weight, number in rows
    )
    figures = "".join(
        f'<figure><img alt="" src="{_source(shown.features[part["feature"]])}">'
        f"<figcaption><b>feature {part['feature']}</b><br>w·f = {part['contribution']:+.2f}</figcaption></figure>"
        for part in listed
    )
    return (
        f"<h3>What made it {html.escape(explained['class'])}</h3>"
        f'<div class="scroll"><table><tr><th></th><th>feature f</th><th>weight w</th><th>w·f</th><th></th></tr>{body}'
        f'<tr class="sum"><td>score (logit)</td><td></td><td></td><td>{explained["logit"]:+.2f}</td><td></td></tr>'
        f'</table></div><h3>Where these features looked</h3><div class="row">{figures}</div>'
    )


def _runner_up(record: Mapping[str, Any], shown: Pictures) -> str:
    """The strongest other class, what parts the two, and what would have to differ."""
    other, explained = record["runner_up"], record["explained"]
    first, second = html.escape(explained["class"]), html.escape(other["class"])
    ahead = f"{first} {'leads' if other['lead'] >= 0 else 'trails'} by {abs(other['lead']):.2f}"
    figures = "".join(
        f'<figure><img alt="" src="{_source(shown.lead[part["feature"]])}">'
        f"<figcaption><b>feature {part['feature']}</b><br>{part['lead']:+.2f}</figcaption></figure>"
        for part in other["features"]
        if part["feature"] in shown.lead
    )
    above = ", ".join(
        f"feature {part['feature']} ({part['lead']:+.2f})"
        for part in other["features"]
        if part["feature"] in shown.repeated
    )
    if above:
        above = f"<p>Shown above, as {second} does not weigh them: {above}.</p>"
    changes = "".join(
        f"<li>feature {change['feature']} at <b>{change['needed']:.3g}</b> instead of {change['value']:.3g}</li>"
        for change in other["would_tie"]
    )
    differ = (
        f"<p>The two would be level if <b>one</b> of these differed, all else equal:</p><ul>{changes}</ul>"
        if changes
        else "<p>No single feature could make the two level.</p>"
    )
    return (
        f"<h3>Next: {second} <span class='soft'>{100 * other['probability']:.1f} %</span></h3>"
        f"<p>{ahead}. These features part the two most, each with its share of the lead; the biases add "
        f"{other['bias_lead']:+.2f}.</p>"
        f'<div class="row">{figures}</div>{above}{differ}'
    )


def _methods(record: Mapping[str, Any], shown: Pictures) -> str:
    figures = []
    for name, image in shown.methods.items():
        found = record["methods"][name]
        lines = [f"<b>{html.escape(found['title'])}</b>"]
        if "completeness" in found:
            missed = abs(found["completeness"]) >= TOLD * abs(found["score"])
            lines.append(f"adds up but for {found['completeness']:+.2g}" if missed else "adds up")
        figures.append(
            f'<figure><img alt="" src="{_source(image)}"><figcaption>{"<br>".join(lines)}</figcaption></figure>'
        )
    return f'<div class="row">{"".join(figures)}</div>'


def _bar(share: float) -> str:
    """A bar from the middle, to the right for positive shares in [−1, 1]."""
    width = 50 * abs(share)
    left = 50 if share >= 0 else 50 - width
    colour = "var(--for)" if share >= 0 else "var(--against)"
    return f'<td class="bar"><div><i style="left:{left:.1f}%;width:{width:.1f}%;background:{colour}"></i></div></td>'


def _source(image: Image.Image) -> str:
    return data_uri(image, "JPEG")
