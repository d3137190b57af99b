"""Sheets of attribution maps: many images of one method, and the features that decided about each image."""

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from handful.attribution.compute import Attribution
from handful.attribution.contributions import Contributions
from handful.attribution.registry import get
from handful.report.overlays import captioned, overlay, picture, sheet


def attribution_caption(found: Attribution, image: int, class_names: Sequence[str]) -> list[str]:
    """Return the caption of one map: target, its probability, and the completeness error where the method has one."""
    if found.targets is None or found.probabilities is None:
        lines = [f"score {float(found.scores[image]):.2f}"]
    else:
        target = int(found.targets[image])
        lines = [class_names[target], f"p = {float(found.probabilities[image]):.3f}"]
    if found.completeness is not None:
        lines.append(f"misses {float(found.completeness[image]):+.2g} of {float(found.scores[image]):.2f}")
    return lines


def method_sheet(
    images: Tensor,
    found: Attribution,
    class_names: Sequence[str],
    titles: Sequence[str],
    side: int = 112,
    columns: int = 4,
) -> Image.Image:
    """Draw each image beside its map, with target, probability and completeness error beneath.

    Args:
        images: `(N, 3, H, W)` in [0, 1].
        found: one target per image.
        class_names: by class.
        titles: `(N,)`, what stands beneath each image (its label, its number).
        side: of the pictures in pixels.
        columns: images per row.
    """
    method = get(found.method)
    tiles = []
    for row, values in enumerate(found.map()):
        tiles.append(captioned(picture(images[row], side), [titles[row]], 10))
        lines = attribution_caption(found, row, class_names)
        tiles.append(captioned(overlay(images[row], values, method.signed, side), lines, 10))
    return sheet(tiles, 2 * columns, method.title)


def features_sheet(
    images: Tensor,
    parts: Contributions,
    class_names: Sequence[str],
    titles: Sequence[str],
    limit: int = 5,
    side: int = 112,
) -> Image.Image:
    """Draw a row per image: where each of the features that decided looked, and its contribution to the logit.

    Args:
        images: `(N, 3, H, W)` in [0, 1].
        parts: of these images.
        class_names: by class.
        titles: `(N,)`.
        limit: number of features per image, the strongest.
        side: of the pictures in pixels.
    """
    tiles = []
    for row in range(len(images)):
        explained = int(parts.classes[row])
        logit = float(parts.logits[row, explained])
        tiles.append(captioned(picture(images[row], side), [titles[row], f"{class_names[explained]}: {logit:.2f}"], 10))
        for feature in parts.strongest(row, limit).tolist():
            drawn = overlay(images[row], parts.map_of(row, feature), True, side)
            tiles.append(
                captioned(drawn, [f"feature {feature}", f"w·f = {float(parts.values[row, feature]):+.2f}"], 10)
            )
        while len(tiles) % (limit + 1):
            tiles.append(Image.new("RGB", (side, side), (255, 255, 255)))
    return sheet(tiles, limit + 1, "the features of the predicted class")
