"""Large images strip by strip: what is turned to RGB, and where pixels are stored plainly what is read, at a time."""

from collections.abc import Callable
from typing import Any

from PIL import Image

from handful.images.colour import to_rgb

#: An image of more pixels is shrunk by whole factors while it is read, to no less than twice the size asked for.
SHRINK_PIXELS = 50_000_000
#: Rows of images of deep pixels are turned to bytes strip by strip from so many pixels on: their values take much more.
DEEP_PIXELS = 4_000_000

# Formats whose images are no more than their rows, as Pillow's decoders leave them.
_PLAIN = ("BMP", "DIB", "PPM", "SUN", "TIFF")
# Bits of a pixel in the file by Pillow's raw mode, for rows that follow each other without a gap.
_BITS = {
    "1": 1, "1;I": 1, "L": 8, "L;I": 8, "P": 8, "LA": 16, "I;16": 16, "I;16B": 16, "RGB": 24, "RGBX": 32, "RGBA": 32,
    "RGBa": 32, "CMYK": 32, "F;32F": 32, "F;32BF": 32, "RGB;16L": 48, "RGB;16B": 48,
}  # fmt: skip
_UPRIGHT, _ORIENTATION = (None, 1), 0x0112

#: Gives the rows of an image from one number to another, in the image's own mode.
Rows = Callable[[int, int], Image.Image]


def is_large(image: Image.Image) -> bool:
    """Whether an image is shrunk while it is read."""
    return image.width * image.height > SHRINK_PIXELS


def is_deep(image: Image.Image) -> bool:
    """Whether an image's pixels take much more memory as numbers than as bytes."""
    return image.mode.startswith(("I", "F")) and image.width * image.height > DEEP_PIXELS


def loaded_rows(image: Image.Image) -> Rows:
    """The rows of an image that is decoded."""
    return lambda top, bottom: _like(image.crop((0, top, image.width, bottom)), image)


def stored_rows(image: Any) -> Rows | None:
    """The rows of an image that is opened and not decoded, read from its file one by one.

    Args:
        image: of `Image.open`, whose file stays open.

    Returns:
        None where the pixels are compressed, tiled, turned or stored by planes: such an image is decoded whole.
    """
    if image.format not in _PLAIN or not image.tile or _turned(image):
        return None
    bands: list[tuple[int, int, int, str, int, int]] = []
    for codec, extents, offset, given in sorted(image.tile, key=lambda tile: tile[1][1]):
        raw_mode, stride, step = (*(given if isinstance(given, tuple) else (given,)), 0, 1)[:3]
        left, top, right, bottom = extents
        if codec != "raw" or (left, right) != (0, image.width) or not (stride or raw_mode in _BITS):
            return None
        if top != (bands[-1][1] if bands else 0) or step not in (1, -1):
            return None
        stride = stride or (image.width * _BITS[raw_mode] + 7) // 8
        bands.append((top, min(bottom, image.height), offset, raw_mode, stride, step))
    if bands[-1][1] != image.height:
        return None

    def rows(first: int, last: int) -> Image.Image:
        found = Image.new(image.mode, (image.width, last - first))
        for top, bottom, offset, raw_mode, stride, step in bands:
            start, stop = max(first, top), min(last, bottom)
            if start >= stop:
                continue
            image.fp.seek(offset + stride * (start - top if step == 1 else bottom - stop))
            content = image.fp.read(stride * (stop - start))
            try:
                part = Image.frombytes(
                    image.mode, (image.width, stop - start), content, "raw", raw_mode, stride, step
                )
            except ValueError:
                raise OSError("image file is truncated") from None
            found.paste(part, (0, start - first))
        if image.palette is not None:
            found.palette = image.palette.copy()
        found.info = image.info
        return _like(found, image)

    return rows


def in_strips(image: Image.Image, rows: Rows, white: float | None, least: int) -> Image.Image:
    """Return `to_rgb` of an image strip by strip, a large one shrunk by a whole factor.

    Args:
        image: says its size.
        rows: of the image.
        white: see `to_rgb`.
        least: twice this is left of the shorter side of an image that is shrunk.
    """
    factor = max(1, min(image.size) // (2 * least)) if is_large(image) else 1
    strip = factor * max(1, 2**21 // (image.width * factor))  # some two million pixels
    canvas = Image.new("RGB", tuple(-(-side // factor) for side in image.size))  # type: ignore[arg-type]
    for top in range(0, image.height, strip):
        part = rows(top, min(top + strip, image.height))
        canvas.paste(to_rgb(part, white).reduce(factor), (0, top // factor))
    return canvas


def _turned(image: Any) -> bool:
    """Whether Pillow turns a TIFF while it decodes it."""
    return hasattr(image, "tag_v2") and image.tag_v2.get(_ORIENTATION) not in _UPRIGHT


def _like(part: Image.Image, whole: Image.Image) -> Image.Image:
    """Give a part of an image what says how its pixels are meant: its kind and, for TIFF, its fields."""
    part.format = whole.format
    if hasattr(whole, "tag_v2"):
        part.tag_v2 = whole.tag_v2  # type: ignore[attr-defined]
    return part
