"""The page of `explain`: why the model decided as it did about given pictures, in one HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from handful.report.page import render


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
    """Return the self-contained page as HTML.

    Args:
        title: of the page.
        facts: short statements about the model, shown beneath the title.
        records: one per image, as `explain.json` holds them.
        pictures: of the same images.
        other_pages: text → address of the pages with further images.
    """
    pairs = zip(records, pictures, strict=True)
    cards = [{"record": record, "shown": shown, **_decided(record, shown)} for record, shown in pairs]
    return render("explain.html", title=title, facts=facts, cards=cards, other_pages=other_pages or {})


def _decided(record: Mapping[str, Any], shown: Pictures) -> dict[str, Any]:
    """The table of contributions: the features drawn, all others together, the bias; each with its share of a bar."""
    if "contributions" not in record:
        return {}
    listed = [part for part in record["contributions"] if part["feature"] in shown.features]
    others = record["contributions"][len(listed) :]
    rows = [
        (f"feature {part['feature']}", f"{part['value']:.3g}", f"{part['weight']:.3g}", part["contribution"])
        for part in listed
    ]
    if others:
        noun = "feature" if len(others) == 1 else "features"
        rows.append((f"{len(others)} other {noun}", "", "", sum(part["contribution"] for part in others)))
    rows.append(("bias", "", "", record["explained"]["bias"]))
    largest = max(abs(row[3]) for row in rows) or 1.0
    names = ("label", "value", "weight", "number")
    return {"listed": listed, "rows": [dict(zip(names, row, strict=True), share=row[3] / largest) for row in rows]}
