"""The page of `explain`: why the model decided as it did about given pictures, in one HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from markupsafe import Markup
from PIL import Image

from handful.report.effects import TINY
from handful.report.page import render, script_values
from handful.report.waterfall import waterfall

#: Features of the lead with a row of their own.
_LEADING = 8


@dataclass
class Pictures:
    """The pictures that belong to one image's record.

    Attributes:
        image: as the model saw it.
        features: feature → where it looked, for the explained class.
        lead: feature → where it spoke for the explained class and against the runner-up.
        steps: feature → its map, of the steps from all classes to the predicted one.
        methods: method → its map.
        repeated: features that part the two classes with the very picture that `features` holds.
    """

    image: Image.Image
    features: dict[int, Image.Image] = field(default_factory=dict)
    lead: dict[int, Image.Image] = field(default_factory=dict)
    methods: dict[str, Image.Image] = field(default_factory=dict)
    repeated: list[int] = field(default_factory=list)
    steps: dict[int, Image.Image] = field(default_factory=dict)


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
    cards = [
        {"record": record, "shown": shown, "called": partial(_label, names=record.get("feature_names", {}))}
        | _decided(record, shown)
        for record, shown in pairs
    ]
    return render("explain.html", title=title, facts=facts, cards=cards, other_pages=other_pages or {})


@dataclass
class Entry:
    """One picture in the index of many.

    Attributes:
        name: of the picture.
        address: of its explanation.
        thumbnail: small, as a data URI; empty where there are too many.
        predicted: the predicted class, and its probability in [0, 1].
        correct: whether it is the true class; None where that is not known.
        true: name of the true class, where it is known.
    """

    name: str
    address: str
    thumbnail: str
    predicted: tuple[str, float]
    correct: bool | None = None
    true: str | None = None


def index_page(title: str, facts: Sequence[str], entries: Sequence[Entry]) -> str:
    """Return the index of many pictures: what each was taken for, and where its explanation is."""
    shown = [{**vars(entry), "thumbnail": Markup(entry.thumbnail)} for entry in entries]
    return render("explain_index.html", title=title, facts=facts, entries=shown, **script_values("report.js"))


def _decided(record: Mapping[str, Any], shown: Pictures) -> dict[str, Any]:
    """The contributions, and what the lead is made of, as waterfalls: features drawn, all others together, the bias."""
    if "contributions" not in record:
        return {}
    names = record.get("feature_names", {})
    listed = [part for part in record["contributions"] if part["feature"] in shown.features]
    others = record["contributions"][len(listed) :]
    parts = [(_label(part["feature"], names), part["contribution"], part["feature"]) for part in listed]
    if others:
        parts.append((_others(len(others)), sum(part["contribution"] for part in others), None))
    rows, total = waterfall([*parts, ("bias", record["explained"]["bias"], None)], "score (logit)")
    values = {part["feature"]: (f"{part['value']:.3g}", f"{part['weight']:.3g}") for part in listed}
    shown_contributions = {row.feature: row.shown for row in rows if row.feature is not None}
    return {
        "listed": listed, "rows": rows, "total": total, "values": values, "shown_contributions": shown_contributions,
        **_lead(record, names),
    }  # fmt: skip


def _lead(record: Mapping[str, Any], names: Mapping[Any, str]) -> dict[str, Any]:
    other = record["runner_up"]
    features = other["features"]
    least = TINY * max((abs(part["lead"]) for part in features), default=0.0)
    own = [part for part in features if abs(part["lead"]) >= least][:_LEADING]
    parts = [(_label(part["feature"], names), part["lead"], part["feature"]) for part in own]
    if rest := [part for part in features if part not in own]:
        parts.append((_others(len(rest)), sum(part["lead"] for part in rest), None))
    rows, total = waterfall([*parts, ("biases", other["bias_lead"], None)], "lead")
    lead_shown = {row.feature: row.shown for row in rows if row.feature is not None}
    return {"lead_rows": rows, "lead_total": total, "lead_shown": lead_shown}


def _label(feature: int, names: Mapping[Any, str]) -> str:
    name = names.get(str(feature), names.get(feature))
    return f"feature {feature}" if name is None else f"{name} ({feature})"


def _others(count: int) -> str:
    return f"{count} other feature{'' if count == 1 else 's'}"
