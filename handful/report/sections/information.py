"""Maps in bits of the information-bottleneck plug-in, as its comparison drew them."""

from collections.abc import Mapping
from typing import Any

from PIL import Image

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
        record, path = content.json(f"{phase}/comparison.json"), content.folder / phase / "comparison.png"
        if not isinstance(record, dict):
            continue
        rows = [
            [says, *(f"{row[key]:.3f}" if isinstance(row.get(key), float) else "–" for row in record.values())]
            for key, says in _MEASURES.items()
        ]
        return {"columns": ["mean bits per image", *record], "rows": rows, "image": _picture(path)}
    return None


def _picture(path: Any) -> Image.Image | None:
    if not path.is_file():
        return None
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((_WIDEST, 4 * _WIDEST))
    return image
