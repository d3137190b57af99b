"""The report of a run: results and cost, what its features look at, which of them decide each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from handful.report.page import drawn, render

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
        mistaken: the class that it is most often mistaken for, and the share of its images in per cent.
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
    """Return the self-contained page as HTML.

    Args:
        title: of the page.
        results: the content of `results.json`.
        stage_table: column names, and the cells of every row.
        config: the run's configuration as text.
        features: those that decide, most used first.
        classes: in the order of their labels.
        figures: heading → figure.
        explained: the phase whose classifier the features and classes belong to.
    """
    drawings = [(heading, *drawn(figure)) for heading, figure in (figures or {}).items()]
    shown = {"Stages": True, "Features": features, "Classes": classes}
    return render(
        "run.html",
        title=title,
        facts=_facts(results),
        headings=[*(heading for heading, there in shown.items() if there), *(figures or {}), "Configuration"],
        stages={"columns": stage_table[0], "rows": stage_table[1]},
        cost=_cost(results),
        explained=explained,
        features=[_card(card) for card in features],
        classes=[vars(row) | {"effects": _effects(row.features, ":")} for row in classes],
        figures=[{"heading": heading, "image": image, "width": width} for heading, image, width in drawings],
        config=config,
    )


def _facts(results: Mapping[str, Any]) -> list[str]:
    data, versions = results.get("data", {}), results.get("versions", {})
    facts = [f"{data.get('name', '')}, {data['num_classes']} classes"] if "num_classes" in data else []
    splits = data.get("images") or data.get("splits") or {}
    facts += [", ".join(f"{count} {split}" for split, count in splits.items()) + " images"] if splits else []
    facts += [f"started from {results['weights']}"] if results.get("weights") else []
    facts += [" ".join(f"{name} {version}" for name, version in versions.items() if name in ("handful", "torch"))]
    return [fact for fact in facts if fact]


def _cost(results: Mapping[str, Any]) -> list[list[str]]:
    seconds, memory = results.get("seconds", {}), results.get("peak_memory_mib", {})
    return [[name, f"{spent:.1f}", f"{memory.get(name, float('nan')):.0f}"] for name, spent in seconds.items()]


def _card(card: FeatureCard) -> dict[str, Any]:
    effects = _effects(card.effects, "")
    sides = [
        ("speaks for", [effect for effect in effects if effect["value"] > 0]),
        ("against", [effect for effect in effects if effect["value"] < 0]),
    ]
    return {
        "number": card.number,
        "pictures": card.pictures,
        "sides": [
            {"words": words, "named": chosen[:_NAMED], "more": max(0, len(chosen) - _NAMED)}
            for words, chosen in sides
            if chosen
        ],
    }


def _effects(effects: Mapping[Any, float], sign: str) -> list[dict[str, Any]]:
    """Effects by name, the strongest first; the sign stands between name and number."""
    order = sorted(effects.items(), key=lambda pair: -abs(pair[1]))
    return [{"name": str(name), "sign": sign, "value": value} for name, value in order]
