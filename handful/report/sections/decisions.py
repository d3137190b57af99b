"""Single decisions: the most confident errors with what tipped them, and some right ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from handful.explain.local import Decision, confident_errors, confident_hits, decisions
from handful.report.content import Content
from handful.report.effects import TINY
from handful.report.overlays import overlay, picture
from handful.report.waterfall import waterfall

#: Errors and right decisions that are shown.
ERRORS, RIGHT = 9, 3

#: Features with a row of their own; the others are summed up.
_ROWS = 10

#: Side of the picture, and of a feature's, in pixels.
_SIDE, _SMALL = 192, 96


def build(content: Content) -> Mapping[str, Any] | None:
    """Cards of errors and of right decisions."""
    deciding, images = content.deciding, content.dataset
    if deciding is None or images is None or content.inputs is None:
        return None
    chosen = [confident_errors(deciding, ERRORS), confident_hits(deciding, RIGHT)]
    errors, right = (cards(content, decisions(deciding, images, indices)) for indices in chosen)
    return {"errors": errors, "right": right} if errors or right else None


def cards(content: Content, found: Sequence[Decision]) -> list[dict[str, Any]]:
    """What the template `decision` of `decision.html` shows of decisions."""
    return [_card(content, decision) for decision in found]


def _card(content: Content, decision: Decision) -> dict[str, Any]:
    assert content.inputs is not None
    assert content.deciding is not None
    names = content.deciding.names
    image = content.inputs.denormalise(decision.image)
    least = TINY * max(map(abs, decision.parts.values()), default=0)
    listed = [(feature, value) for feature, value in decision.parts.items() if abs(value) >= least][:_ROWS]
    others = list(decision.parts.items())[len(listed) :]
    parts: list[tuple[str, float, int | None]] = [("bias", decision.bias, None)]
    parts += [(content.label(feature), value, feature) for feature, value in listed]
    if others:
        noun = "feature" if len(others) == 1 else "features"
        parts.append((f"{len(others)} other {noun}", sum(value for _, value in others), None))
    rows, total = waterfall(parts, "score" if decision.right else "lead")
    return {
        "index": decision.index,
        "right": decision.right,
        "truth": decision.truth,
        "truth_link": content.class_link(names.index(decision.truth)),
        "predicted": decision.predicted,
        "predicted_link": content.class_link(names.index(decision.predicted)),
        "probability": decision.probability,
        "image": picture(image, _SIDE),
        "maps": {f: overlay(image, decision.maps[f], True, _SMALL) for f, _ in listed if f in decision.maps},
        "called": {f: content.label(f) for f in decision.parts},
        "links": {f: content.feature_link(f) for f in decision.parts},
        "rows": rows,
        "total": total,
    }
