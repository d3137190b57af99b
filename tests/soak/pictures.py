"""Picture files as they come damaged, extreme, from odd programs, or from somebody who means harm."""

import contextlib
import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

from tests.soak.values import damaged_bytes

_FORMATS = (
    "PNG",
    "JPEG",
    "GIF",
    "BMP",
    "TIFF",
    "WEBP",
    "PPM",
    "TGA",
    "ICO",
    "SGI",
    "PCX",
    "JPEG2000",
    "DIB",
    "ICNS",
    "AVIF",
)
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F")
_SUFFIXES = (".png", ".jpg", ".JPG", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def damaged_picture(rng: random.Random) -> tuple[str, bytes]:
    """A file name and a content."""
    name = rng.choice(["a", "é", "a b", "$x^{2", "=1", "a\u202eb", "n" * 200]) + rng.choice(_SUFFIXES)
    kind = rng.randrange(10)
    if kind <= 4:
        return name, damaged_bytes(rng, _saved(rng, rng.choice(_FORMATS[:8])), rng.choice([1, 2]))
    if kind <= 6:
        return name, _saved(rng, rng.choice(_FORMATS), rng.choice(_MODES))
    if kind == 7:
        return name, _saved(
            rng, "PNG", "RGB", rng.choice([(1, 1), (1, 900), (900, 1), (3000, 2), (2, 3000), (1, 20000)])
        )
    if kind == 8:
        return name, rng.choice(_OTHERS)(rng)
    return name, _noted(rng)


def _saved(rng: random.Random, form: str, mode: str = "RGB", size: tuple[int, int] | None = None) -> bytes:
    width, height = size or (rng.choice([1, 7, 24, 60]), rng.choice([1, 7, 24, 60]))
    noise = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    with contextlib.suppress(ValueError):
        picture = picture.convert("L").convert(mode) if mode in ("I", "F", "I;16", "1", "PA") else picture.convert(mode)
    buffer = io.BytesIO()
    options = {}
    if form in ("GIF", "WEBP", "PNG", "TIFF") and rng.random() < 0.3:
        options = {"save_all": True, "append_images": [picture.rotate(90 * i) for i in range(rng.choice([1, 3]))]}
    try:
        picture.save(buffer, form, **options)
    except (OSError, ValueError, KeyError, struct.error):
        picture.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _noted(rng: random.Random) -> bytes:
    """A JPEG with notes of a camera: a rotation, one that makes no sense, damaged notes, far too many."""
    picture = Image.fromarray(np.zeros((30, 20, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = rng.choice([1, 3, 6, 8, 9, 0, 77])
    content = exif.tobytes()
    kind = rng.randrange(4)
    if kind == 1:
        content = content[:6] + damaged_bytes(rng, content[6:], 2)
    elif kind == 2:
        content = b"Exif\0\0" + bytes(60000)
    picture.save(buffer, "JPEG", exif=content[:65000], icc_profile=rng.randbytes(500) if kind == 3 else None)
    return buffer.getvalue()


def png_header(width: int, height: int, depth: int = 8, colour: int = 2, rows: bytes = bytes(1000)) -> bytes:
    """A PNG that says it is that large, whatever its rows hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


_OTHERS = (
    lambda rng: png_header(rng.choice([0, 2**31 - 1, 30000, 12000]), rng.choice([0, 2**31 - 1, 30000, 12000])),
    lambda rng: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    lambda rng: b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    lambda rng: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n(canary) (w) file closefile\nshowpage\n%%EOF",
    lambda rng: b"<html><body>404</body></html>",
    lambda rng: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
    lambda rng: b"P6\n99999999 99999999\n255\n" + bytes(100),
    lambda rng: b"P5\n20 20\n70000\n" + bytes(800),
    lambda rng: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, -(2**30), 1, 24, 0, 0, 0, 0, 0, 0),
    lambda rng: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(20) + b"\x3b",
    lambda rng: b"",
    lambda rng: bytes(5000),
    lambda rng: _saved(rng, "PNG") + b"PK\x03\x04" + rng.randbytes(200),
    lambda rng: rng.randbytes(2000),
)  # fmt: skip
