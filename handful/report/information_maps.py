"""Figures of information maps: maps in bits beside their images, several networks side by side."""

from collections.abc import Mapping, Sequence

from PIL import Image
from torch import Tensor

from handful.report.overlays import captioned, overlay, picture, sheet

#: Maps whose sign means something.
_SIGNED = ("general", "redundant")

#: What is written under a map.
_TITLES = {
    "general": "general",
    "general_head": "general (head)",
    "sufficient": "sufficient",
    "redundant": "redundant",
    "keep": "kept share",
    "capacity": "capacity",
    "iba": "IBA per sample",
    "iba readout": "IBA readout",
}


def information_sheet(
    images: Tensor,
    maps: Mapping[str, Tensor],
    captions: Sequence[str] | None = None,
    title: str = "",
    side: int = 120,
) -> Image.Image:
    """Draw one row per image: the image, then its maps with their mean and maximum.

    Args:
        images: `(N, 3, H, W)` in [0, 1].
        maps: by name, `(N, h, w)`, in bits (`keep`: a share).
        captions: a line per image.
        title: above the sheet.
        side: of a picture, in pixels.
    """
    tiles = []
    for i, image in enumerate(images):
        tiles.append(captioned(picture(image, side), [captions[i] if captions else f"image {i}"]))
        for name, values in maps.items():
            tile = overlay(image, values[i], signed=name in _SIGNED, side=side)
            tiles.append(captioned(tile, [_title(name), _numbers(name, values[i])]))
    return sheet(tiles, columns=1 + len(maps), title=title)


def comparison_sheet(
    images: Tensor, maps: Mapping[str, Mapping[str, Tensor]], which: Sequence[str], title: str = "", side: int = 110
) -> Image.Image:
    """Draw one row per image; for every network its maps of the kinds in `which`.

    Args:
        images: `(N, 3, H, W)` in [0, 1].
        maps: by network, then by name, `(N, h, w)`.
        which: names of the maps drawn.
        title: above the sheet.
        side: of a picture, in pixels.
    """
    tiles = []
    for i, image in enumerate(images):
        tiles.append(captioned(picture(image, side), [f"image {i}"]))
        for name in which:
            for network, found in maps.items():
                tile = overlay(image, found[name][i], signed=name in _SIGNED, side=side)
                tiles.append(captioned(tile, [f"{network}: {_title(name)}", _numbers(name, found[name][i])]))
    return sheet(tiles, columns=1 + len(which) * len(maps), title=title)


def episode_sheet(
    support: Tensor,
    support_maps: Tensor,
    queries: Tensor,
    query_maps: Mapping[str, Tensor],
    names: Sequence[str],
    predictions: Sequence[str],
    title: str = "",
    side: int = 120,
) -> Image.Image:
    """Draw an episode: a row per class with its support image and map, a query image and its maps.

    Args:
        support: one support image per class, `(way, 3, H, W)` in [0, 1].
        support_maps: `(way, H, W)`.
        queries: one query image per class, `(way, 3, H, W)`.
        query_maps: by name, `(way, H, W)`.
        names: the classes.
        predictions: a line per query.
        title: above the sheet.
        side: of a picture, in pixels.
    """
    tiles = []
    for c, name in enumerate(names):
        tiles.append(captioned(picture(support[c], side), [f"support: {name}"]))
        tiles.append(captioned(overlay(support[c], support_maps[c], side=side), ["support: sufficient"]))
        tiles.append(captioned(picture(queries[c], side), [predictions[c]]))
        for kind, values in query_maps.items():
            tile = overlay(queries[c], values[c], signed=kind in _SIGNED, side=side)
            tiles.append(captioned(tile, [f"query: {_title(kind)}"]))
    return sheet(tiles, columns=3 + len(query_maps), title=title)


def _title(name: str) -> str:
    return _TITLES.get(name, {"gradcam": "Grad-CAM"}.get(name, name))


def _numbers(name: str, values: Tensor) -> str:
    unit = " bits" if name in _TITLES and name != "keep" else ""
    return f"mean {float(values.mean()):.2f}, max {float(values.max()):.2f}{unit}"
