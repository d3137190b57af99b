"""Maps in bits of the information-bottleneck plug-in: as its comparison drew them, or each plug-in by itself."""

from collections.abc import Mapping
from typing import Any

from PIL import Image

from handful.images.reading import open_image
from handful.report.content import Content

#: Width of a picture on the page, in pixels.
_WIDEST = 1100

#: Measures in bits, and what they are.
_MEASURES = {
    "general_bits": "general: local and global representation",
    "sufficient_bits": "sufficient: what the decision needs of it",
    "redundant_bits": "the difference: carried, not used",
    "capacity_bits": "what passes the bottleneck, upper bound",
}

#: Maps that are shown, and where a phase keeps them: of test images, else of the last epoch's validation images.
_MAPS = ("general", "sufficient", "redundant")
_PLACES = {"attribution_test": "test images", "attribution": "validation images"}


def build(content: Content) -> Mapping[str, Any] | None:
    """The pictures, and the mean bits of each phase."""
    for phase in reversed(content.phases):
        record = content.record(phase, "comparison.json", _is_record)
        if record is None:
            continue
        image = _picture(content, phase, "comparison.png")
        says = "Test images with maps of general, sufficient and redundant information in bits"
        return {**_table(record), "figures": [("", [(image, says)])] if image is not None else []}
    stages = {
        stage: row
        for stage, row in content.results.get("stages", {}).items()
        if any(isinstance(row.get(key), int | float) for key in _MEASURES)
    }
    figures = [(phase, pictures) for phase in content.phases if (pictures := _sheets(content, phase))]
    return {**_table(stages), "figures": figures} if stages or figures else None


def _table(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean bits, a column per network."""
    lines = [
        [says, *(f"{row[key]:.3f}" if isinstance(row.get(key), int | float) else "–" for row in rows.values())]
        for key, says in _MEASURES.items()
    ]
    return {"columns": ["mean bits per image", *rows], "rows": lines if rows else []}


def _sheets(content: Content, phase: str) -> list[tuple[Image.Image, str]]:
    """The newest sheet of every map of a phase, and what it shows."""
    for place, images in _PLACES.items():
        found = []
        for kind in _MAPS:
            drawn = [file.name for file in (content.folder / phase / place / kind).glob("epoch_*.png")]
            newest = max(drawn, key=lambda name: (len(name), name), default=None)  # epoch 1000 comes after 999
            image = None if newest is None else _picture(content, phase, f"{place}/{kind}/{newest}")
            if image is not None:
                found.append((image, f"{images} with their maps of {kind} information in bits, {phase}"))
        if found:
            return found
    return []


def _is_record(record: Any) -> bool:
    """Whether JSON from a file has what the section needs."""
    return isinstance(record, dict) and all(isinstance(row, dict) for row in record.values())


def _picture(content: Content, phase: str, name: str) -> Image.Image | None:
    path = content.folder / phase / name
    if not path.is_file():
        return None
    image = open_image(path)
    image.thumbnail((_WIDEST, 4 * _WIDEST))
    return image
