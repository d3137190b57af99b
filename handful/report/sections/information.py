"""Maps in bits of the information-bottleneck plug-in, as its comparison drew them."""

from collections.abc import Mapping
from typing import Any

from PIL import Image

from handful.images.reading import open_image
from handful.report.content import Content

#: Width of the picture on the page, in pixels.
_WIDEST = 1100

#: Measures in bits, and what they are.
_MEASURES = {
    "general_bits": "general: local and global representation",
    "sufficient_bits": "sufficient: what the decision needs of it",
    "redundant_bits": "the difference: carried, not used",
    "capacity_bits": "what passes the bottleneck, upper bound",
}


def build(content: Content) -> Mapping[str, Any] | None:
    """The picture and the mean bits of each compared phase."""
    for phase in reversed(content.phases):
        record = content.record(phase, "comparison.json", _is_record)
        if record is None:
            continue
        rows = [
            [says, *(f"{row[key]:.3f}" if isinstance(row.get(key), int | float) else "–" for row in record.values())]
            for key, says in _MEASURES.items()
        ]
        return {"columns": ["mean bits per image", *record], "rows": rows, "image": _picture(content, phase)}
    return None


def _is_record(record: Any) -> bool:
    """Whether JSON from a file has what the section needs."""
    return isinstance(record, dict) and all(isinstance(row, dict) for row in record.values())


def _picture(content: Content, phase: str) -> Image.Image | None:
    path = content.folder / phase / "comparison.png"
    if not path.is_file():
        return None
    image = open_image(path)
    image.thumbnail((_WIDEST, 4 * _WIDEST))
    return image
