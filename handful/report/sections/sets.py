"""Sets of classes that hold the true one with a chosen probability: how good they are, and some of them in words."""

from collections.abc import Mapping
from typing import Any

import torch

from handful.attribution.state import model_device
from handful.explain.deciding import SIDE, DecidingFeatures
from handful.explain.possible import Possible, possible_classes
from handful.report.content import Content
from handful.report.overlays import overlay, picture

#: Images that are shown, and features of each kind beneath one.
SHOWN, FEATURES = 4, 3

_COLUMNS = ["stage", "sets", "coverage", "95 % interval", "classes", "of one class", "empty", "worst class"]
_COLUMNS += ["coherence"]

#: Sets of so many classes are shown.
_SIZES = (2, 4)


def is_record(record: Any) -> bool:
    """Whether JSON from a file has what the section needs."""
    if not isinstance(record, dict) or not isinstance(record.get("made_from"), dict):
        return False
    stages, images = record.get("stages"), record.get("images")
    return (
        isinstance(stages, dict)
        and isinstance(images, dict)
        and isinstance(record.get("asked_coverage"), float)
        and all(
            isinstance(methods, dict) and all(_is_row(row) for row in methods.values()) for methods in stages.values()
        )
    )


def _is_row(row: Any) -> bool:
    numbers = ("coverage", "size", "single", "worst_class")
    if not isinstance(row, dict) or not all(isinstance(row.get(name), int | float) for name in numbers):
        return False
    interval = row.get("interval")
    return isinstance(interval, list) and len(interval) == 2 and all(isinstance(end, float) for end in interval)


def build(content: Content) -> Mapping[str, Any] | None:
    """A row per stage and way to score, and sets of single images in words; None where nothing is calibrated."""
    record = content.conformal
    if record is None:
        return None
    rows = [
        [stage, method, f"{100 * found['coverage']:.1f} %", " – ".join(f"{100 * end:.1f}" for end in found["interval"]),
         f"{found['size']:.2f}", f"{100 * found['single']:.0f} %",
         "–" if found.get("empty") is None else f"{100 * found['empty']:.0f} %", f"{100 * found['worst_class']:.0f} %",
         _cell(found.get("coherence"))]
        for stage, methods in record["stages"].items()
        for method, found in methods.items()
    ]  # fmt: skip
    return {
        "asked": record["asked_coverage"],
        "per_class": bool(record.get("per_class")),
        "images": record["images"],
        "columns": _COLUMNS,
        "rows": rows,
        "cards": _cards(content),
    }


def _cards(content: Content) -> list[dict[str, Any]]:
    deciding, inputs = content.deciding, content.inputs
    if deciding is None or content.dataset is None or inputs is None or content.sets is None:
        return []
    return [_card(index, found, deciding, content) for index, found in _telling(content, deciding)]


@torch.no_grad()
def _telling(content: Content, deciding: DecidingFeatures) -> list[tuple[int, Possible]]:
    """Images whose set has few classes that share a feature, the true one among them, three classes first."""
    assert content.sets is not None
    indices = torch.tensor(list(content.measured), dtype=torch.int64)
    if not len(indices):
        return []
    features = deciding.features[indices]
    sets = content.sets.of(features.float())
    sizes = sets.sum(dim=1)
    low, high = _SIZES
    held = sets.gather(1, deciding.labels[indices][:, None])[:, 0]
    few = (held & (sizes >= low) & (sizes <= high)).nonzero()[:, 0].tolist()
    order = sorted(few, key=lambda i: abs(int(sizes[i]) - 3))
    logits = deciding.model.head(features.to(model_device(deciding.model))).cpu()
    found: dict[str, tuple[int, Possible]] = {}
    for row in order:
        one = possible_classes(
            sets[row], content.sets.coverage, logits[row], deciding.model.head, deciding.names, features[row]
        )
        if one.shared and any(one.own.values()):
            found.setdefault(one.classes[0], (int(indices[row]), one))
        if len(found) == SHOWN:
            break
    return list(found.values())


@torch.no_grad()
def _card(index: int, found: Possible, deciding: DecidingFeatures, content: Content) -> dict[str, Any]:
    assert content.dataset is not None
    assert content.inputs is not None
    batch = content.dataset[index][0][None]
    maps = deciding.model.feature_maps(batch.to(model_device(deciding.model)))[0].cpu()
    image = content.inputs.denormalise(batch)[0]
    captions = [(f, "all of them") for f in found.shared[:FEATURES]]
    captions += [(f, f"only {name}") for name, own in found.own.items() for f in own[:1]]
    return {
        "in_words": found.sentence(content.feature_names),
        "truth": deciding.names[int(deciding.labels[index])],
        "image": picture(image, SIDE),
        "maps": [(overlay(image, maps[f], side=SIDE), content.label(f), caption) for f, caption in captions],
    }


def _cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else "–"
