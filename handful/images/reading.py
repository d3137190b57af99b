"""From the bytes of an image file to upright RGB pixels, whatever the file holds, within bounded memory."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from handful.errors import UserError
from handful.images.colour import settle_clear_colour, to_rgb
from handful.images.formats import HEAD, allowed_formats, unreadable_kind
from handful.images.placement import Box, Framing, Placement, cut_box
from handful.images.strips import Rows, in_strips, is_deep, is_large, loaded_rows, stored_rows

#: Pixels of the largest image that is read unless a caller allows more; a bomb of so many stays below 1 GB.
MAX_PIXELS = 120_000_000

# Bytes that an image may take for each of the pixels that are allowed: of its file, its pixels and its decoder.
_USUAL_BYTES = 8
# Bytes of Pillow's pixels by mode, where they are not four; and what decoders take per pixel besides, as measured.
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
_DECODER = {"WEBP": 12, "JPEG2000": 21, "AVIF": 6, "SGI": 3, "PSD": 4}
# Icons (ICO, ICNS) hold images of other formats, which Pillow decodes when it opens them: they may have fewer pixels.
_ICONS, _PART = (b"\x00\x00\x01\x00", b"icns"), 4
# Decoders that are written in Python take microseconds and twenty bytes for every pixel (DDS of plain pixels, QOI, PPM
# as text, BMP by run lengths): they may have a part of the pixels as well.

#: The size that is asked for where a caller asks for none.
_LEAST = 2048

_ORIENTATION = 0x0112  # the EXIF field
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_limit_lock = threading.RLock()


def read_image(
    source: bytes | str | Path,
    name: str | None = None,
    size: int | None = None,
    *,
    white: float | None = None,
    max_pixels: int = MAX_PIXELS,
    fit: str = "crop",
    box: Box | None = None,
) -> npt.NDArray[np.uint8]:
    """Return an image file's pixels, upright, transparency on white, its shorter side resized to `size`.

    Args:
        source: the content of the file, or its path.
        name: how to call it in an error; the path if not given.
        size: length of the shorter side in pixels (bilinear, antialiased); None leaves the size. An image more than
            `MAX_ASPECT` times as long as wide is cropped to its middle first.
        white: value of white in images whose type does not say (32-bit whole numbers, floating point).
        max_pixels: images of more pixels are refused; WebP and JPEG 2000, whose decoders need more memory, sooner.
        fit: see `resize`.
        box: see `resize`.

    Returns:
        uint8 `(h, w, 3)`, RGB.

    Raises:
        UserError: the file cannot be read, is not an image, is truncated or too large.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGBA", (30, 20), (255, 0, 0, 0)).save(file, "png")
        >>> pixels = read_image(file.getvalue(), "clear.png", size=10)
        >>> pixels.shape, pixels[0, 0].tolist()
        ((10, 15, 3), [255, 255, 255])
    """
    image = open_image(source, name, white=white, max_pixels=max_pixels, least=size)
    return resize(image, size, fit, box)


def open_image(
    source: bytes | str | Path,
    name: str | None = None,
    *,
    white: float | None = None,
    max_pixels: int = MAX_PIXELS,
    least: int | None = None,
) -> Image.Image:
    """Decode an image file at its full size.

    Args:
        source: the content of the file, or its path.
        name: how to call it in an error; the path if not given.
        white: see `read_image`.
        max_pixels: images of more pixels are refused.
        least: an image of more than 50 megapixels is shrunk while it is read, so that copies of it need little memory;
            its shorter side stays at least twice this, or 4,096 if not given.

    Returns:
        The image in mode RGB, turned upright where the camera noted a rotation.

    Raises:
        UserError: the file cannot be read, is not an image, is truncated or too large.

    Example:
        >>> content = io.BytesIO()
        >>> Image.new("RGB", (4, 2)).save(content, "png")
        >>> open_image(content.getvalue(), "a.png").size
        (4, 2)
    """
    name = name or (str(source) if not isinstance(source, bytes) else "image")
    least = least or _LEAST
    with _opened(source, name) as file:
        # Pillow's decoders raise what they please on damaged files, from KeyError to struct.error
        with _sentences(name, Exception):
            head, held = file.read(HEAD), file.seek(0, io.SEEK_END)
            file.seek(0)
            image, rows, turn = _decoded(file, head, held, name, max_pixels, least)
        # only what Pillow raises of a palette that is missing, and of rows that are
        with _sentences(name, (ValueError, AssertionError, LookupError, OSError)):
            pixels = to_rgb(image, white) if rows is None else in_strips(image, rows, white, least)
            if pixels is not image:
                image.close()  # before it is turned, which needs as much again
    return pixels.transpose(turn) if turn is not None else pixels


def open_raw(path: str | Path) -> Image.Image:
    """Decode an image file in the mode of its pixels, upright; its transparency and depth are as in the file.

    Raises:
        UserError: the file cannot be read, is not an image, is truncated or has more than `MAX_PIXELS`.
    """
    name = str(path)
    with _opened(path, name) as file, _sentences(name, Exception):
        head, held = file.read(HEAD), file.seek(0, io.SEEK_END)
        file.seek(0)
        image, _, turn = _decoded(file, head, held, name, MAX_PIXELS, _LEAST)
        image.load()
    return image if turn is None else image.transpose(turn)


def upright_rgb(image: Image.Image, white: float | None = None) -> Image.Image:
    """A picture that was opened elsewhere, as files are read: RGB, turned upright, without transparency.

    Raises:
        UserError: its file is damaged, or nothing says which of its values is white.

    Example:
        >>> upright_rgb(Image.new("RGBA", (2, 1), (255, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    with _sentences("the picture", (ValueError, AssertionError, LookupError, OSError, SyntaxError)):
        image.load()
        # what was turned or changed since it was opened keeps the tag, and is taken as it is
        turn = orientation(image) if image.format is not None else None
        pixels = to_rgb(image, white)
    return pixels if turn is None else pixels.transpose(turn)


@contextmanager
def _sentences(name: str, kinds: type[Exception] | tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn errors of these kinds, and a lack of memory, into a sentence that names the file."""
    try:
        yield
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{name} cannot be read as an image: there is not enough memory for it.") from None
    except kinds as error:
        raise UserError(f"{name} cannot be read as an image: {_reason(error)}.") from None


def _decoded(
    file: BinaryIO, head: bytes, held: int, name: str, max_pixels: int, least: int
) -> tuple[Image.Image, Rows | None, Image.Transpose | None]:
    """An image, its rows where it is to be read in strips, and how to turn it upright."""
    limit = max_pixels // _PART if head.startswith(_ICONS) else max_pixels
    try:
        with _pixel_limit(limit):
            image: Any = Image.open(file, formats=allowed_formats(name))
            rows = stored_rows(image) if is_large(image) else None
            _refuse_slow(image, name, max_pixels)
            _refuse_greedy(image, name, max_pixels, held, rows is not None)
            if rows is not None:
                return image, rows, orientation(image)
            if is_large(image):
                _draft(image, least)
            if image.format == "TIFF":
                # Pillow turns a TIFF upright itself, and rewrites these fields, whatever they hold
                image.info.pop("xmp", None)
            image.load()
            turn = orientation(image)
            settle_clear_colour(image, head)
    except UnidentifiedImageError:
        raise UserError(f"{name} cannot be read as an image: {unreadable_kind(head)}.") from None
    except Image.DecompressionBombError:
        raise UserError(
            f"{name} cannot be read as an image: it has more than {limit / 1e6:.0f} million pixels; "
            "allow more with max_megapixels if it is meant."
        ) from None
    return image, loaded_rows(image) if is_large(image) or is_deep(image) else None, turn


def resize(image: Image.Image, size: int | None, fit: str = "crop", box: Box | None = None) -> npt.NDArray[np.uint8]:
    """Return an image's pixels, uint8 `(h, w, 3)`, resized; None leaves the size.

    Args:
        image: the picture.
        size: side of the square in pixels.
        fit: "crop" resizes the shorter side to `size` and leaves it to others to crop a square; an image more than
            `MAX_ASPECT` times as long as wide is cropped to its middle before. "pad" and "squash" give the square. The
            text of a `Framing` resizes to more, which is left to others to crop as well, except for "pad".
        box: the part of the picture that is used; None for all of it.

    Example:
        >>> picture = Image.new("RGB", (40, 20))
        >>> resize(picture, 10).shape, resize(picture, 10, "squash").shape, resize(picture, 10, "pad").shape
        ((10, 20, 3), (10, 10, 3), (10, 10, 3))
    """
    if size is None:
        return np.asarray(image if box is None else image.crop(cut_box(image.size, box)))
    placement = Placement.of(image.size, size, fit, box)
    return np.asarray(placement.square(image) if Framing.of(fit).kind == "pad" else placement.resized(image))


@contextmanager
def _opened(source: bytes | str | Path, name: str) -> Iterator[BinaryIO]:
    """A file to read from; one on disk is not held in memory."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}.") from None
    with file:
        yield file


def _refuse_slow(image: Any, name: str, max_pixels: int) -> None:
    """Refuse an image of a kind that Pillow decodes in Python, pixel by pixel, sooner than others."""
    pixels, most = image.width * image.height, max_pixels // _PART
    if pixels > most and any(codec in Image.DECODERS for codec, *_ in image.tile):
        raise UserError(
            f"{name} cannot be read as an image: it has {pixels / 1e6:.0f} million pixels, and {image.format} of its "
            f"kind is decoded so slowly that at most {most / 1e6:.0f} million are read; save it as PNG or TIFF, or "
            "allow more with max_megapixels."
        )


def _refuse_greedy(image: Image.Image, name: str, max_pixels: int, size: int, by_rows: bool) -> None:
    """Refuse an image that would take more memory than `max_pixels` pixels of most formats.

    Args:
        image: opened, not decoded.
        name: for the sentence.
        max_pixels: of most formats.
        size: of the file in bytes, all of which may be held.
        by_rows: whether only some rows of it are in memory at a time.
    """
    pixels = image.width * image.height
    each = _STORED.get(image.mode, 4) + _DECODER.get(image.format or "", 0) + _coefficients(image)
    counted = (pixels * (0 if by_rows else each) + size) / _USUAL_BYTES
    if counted > max_pixels:
        raise UserError(
            f"{name} cannot be read as an image: its {pixels / 1e6:.0f} million pixels of {image.format} need as much "
            f"memory as {counted / 1e6:.0f} million of most formats, more than the {max_pixels / 1e6:.0f} million that "
            "are read; allow more with max_megapixels if it is meant."
        )


def _coefficients(image: Image.Image) -> float:
    """Bytes per pixel of the coefficients of a progressive JPEG, all of which are held until the last scan."""
    layers = getattr(image, "layer", None)
    if not layers or not image.info.get("progressive"):
        return 0.0
    samples = [horizontal * vertical for _, horizontal, vertical, *_ in layers]
    return 2.0 * sum(samples) / max(1, max(samples))


def _draft(image: Image.Image, least: int) -> None:
    """Have a JPEG decoded at a half, a quarter or an eighth of its size, its shorter side at least twice `least`."""
    shorter = min(image.size)
    wanted = min(2 * least / shorter, 1.0)
    width, height = (max(1, int(wanted * side)) for side in image.size)
    image.draft("RGB" if image.mode == "RGB" else None, (width, height))


def orientation(image: Image.Image, *, complete: bool = False) -> Image.Transpose | None:
    """Return how to turn an image upright by its EXIF tag, which is read and never rewritten.

    A damaged EXIF block says nothing: the picture is taken as it lies.

    Args:
        image: opened.
        complete: whether nothing but its pixels is left to read: Pillow need not decode a PNG to look for more.
    """
    try:
        exif = Image.Image.getexif(image) if complete else image.getexif()
        value = exif.get(_ORIENTATION)
    except Exception:  # Pillow raises what it pleases on damaged blocks; the pixels are whole
        return None
    return _UPRIGHT.get(value) if isinstance(value, int) else None


@contextmanager
def _pixel_limit(max_pixels: int) -> Iterator[None]:
    """Let Pillow refuse images of more pixels, which it knows of before it decodes, and say nothing of smaller ones."""
    with _limit_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images and of damaged metadata, which cost nothing
        before = Image.MAX_IMAGE_PIXELS
        # Pillow refuses above twice this
        Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or "it is damaged"
    return text.removesuffix(".")[:300]
