"""From whatever a file's pixels mean to 8-bit RGB.

Two rules hold for every image of every data set. What is transparent shows `BACKGROUND`: the colour that a file hides
under its alpha decides nothing. White follows from the type of the pixels (65,535 for 16 bits, 4,095 for 12), never
from the brightest pixel of one image.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

#: What shows through transparent pixels: white.
BACKGROUND = (255, 255, 255)

_DECLARED_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF fields
_WHITE_IS_ZERO, _SIGNED = 0, 2


def to_rgb(image: Image.Image, white: float | None = None) -> Image.Image:
    """Return an image in mode RGB, 8 bits a channel, without transparency.

    Args:
        image: of any mode, loaded.
        white: value of white where the type does not say: 32-bit whole numbers and floating point.

    Raises:
        ValueError: nothing says what is white, or values lie outside black and white.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")) or (image.mode == "L" and _tag(image, _SAMPLE_FORMAT) == _SIGNED):
        return _from_deep(image, white)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if image.has_transparency_data:
        return _composited(_with_alpha(image))
    return image.convert("RGB")


def settle_clear_colour(image: Image.Image, content: bytes) -> None:
    """Bring the one colour that a PNG declares transparent to the scale of the pixels.

    The file gives it in the bits of its samples; Pillow has turned samples of 2 and 4 bits to bytes, and of RGB of 16
    bits keeps the high bytes, by which colours are then compared.

    Args:
        image: loaded; changed in place.
        content: the beginning of its file, with the header.
    """
    clear = image.info.get("transparency")
    if image.format != "PNG" or isinstance(clear, bytes | None):
        return
    bits = content[24]  # of the header, which comes first
    if image.mode == "L" and bits < 8 and isinstance(clear, int):
        image.info["transparency"] = (clear & (2**bits - 1)) * 255 // (2**bits - 1)
    if image.mode == "RGB" and bits == 16 and isinstance(clear, tuple):
        image.info["transparency"] = tuple(part >> 8 for part in clear)


def _with_alpha(image: Image.Image) -> Image.Image:
    """Return an image in mode RGBA, colours not multiplied by alpha."""
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGBA")


def _composited(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size, BACKGROUND)
    canvas.paste(image, mask=image)  # neither a copy of the colours nor of the alpha
    return canvas


def _from_deep(image: Image.Image, white: float | None) -> Image.Image:
    """Return RGB of an image whose pixels are wider than a byte; Pillow would cut them off at 255."""
    values = _values(image)
    top = _white_of_type(image) or white
    if top is None:
        kind = "floating point" if image.mode == "F" else "32-bit whole numbers"
        raise ValueError(
            f"its values are of mode {image.mode} ({kind}), from {values.min():g} to {values.max():g}, and nothing "
            "says which is white: set data.white, or save it with 8 or 16 bits"
        )
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= top):
        raise ValueError(
            f"its values of mode {image.mode} lie from {values.min():g} to {values.max():g}, not between 0 and {top:g}"
        )
    bytes_ = np.rint(values * (255 / top) if top not in (65535,) else values / 257).astype(np.uint8)
    if _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        bytes_ = 255 - bytes_
    grey = Image.fromarray(bytes_).convert("RGB")
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.paste(BACKGROUND, mask=Image.fromarray(np.where(values == clear, 255, 0).astype(np.uint8)))
    return grey


def _values(image: Image.Image) -> npt.NDArray[Any]:
    """The numbers of the pixels; Pillow takes signed bytes for unsigned ones, and 32 unsigned bits for signed ones."""
    values = np.asarray(image)
    signed = _tag(image, _SAMPLE_FORMAT) == _SIGNED
    if image.mode == "L":
        return values.view(np.int8) if signed else values
    if image.mode == "I" and _tag(image, _DECLARED_BITS) == 32 and not signed:
        return values.view(np.uint32)
    return values


def _white_of_type(image: Image.Image) -> float | None:
    """Return the value of white that the type of the pixels fixes; None for 32 bits."""
    if image.format in ("PNG", "PPM", "JPEG2000") and image.mode != "F":
        return 65535.0  # Pillow gives 16-bit images of these kinds as mode I or I;16, always on this scale
    bits = _tag(image, _DECLARED_BITS)
    if bits is not None and bits <= 16:
        return float(2 ** (bits - 1) - 1 if _tag(image, _SAMPLE_FORMAT) == _SIGNED else 2**bits - 1)
    return 65535.0 if image.mode.startswith("I;16") else None


def _tag(image: Image.Image, number: int) -> int | None:
    """Return a whole number from a TIFF field of the image, the first where there are several."""
    tags = getattr(image, "tag_v2", None)  # Pillow keeps it on images read from TIFF files alone
    value = tags.get(number) if tags is not None else None
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else None
