"""No image of any kind takes much memory: real files, each read in a process of its own whose peak is measured."""

import io
import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from handful.errors import UserError
from handful.images import read_image, reading, strips

#: What is bounded: the bytes that reading adds to those of the process before, for every kind; and those of the whole
#: process, where rows are read one by one or a JPEG is decoded at a part of its size.
LIMIT, WHOLE = 2**30, 10**9

_CHILD = """
import sys
from handful.images import read_image

def peak():  # of this process: what getrusage says is inherited from the one that started it
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

before = peak()
try:
    print(read_image(sys.argv[1], size=32, white=1.0).shape)
except ValueError as error:
    print(f"refused: {error}")
print((peak() - before) * 1024)
print(peak() * 1024)
"""


def read(path):
    done = subprocess.run([sys.executable, "-c", _CHILD, str(path)], capture_output=True, text=True, check=True)
    *said, peak, whole = done.stdout.splitlines()
    return " ".join(said), int(peak), int(whole)


def blank(mode, side, **options):
    return lambda path: Image.new(mode, (side, side)).save(path, **options)


def plain_text(path):
    path.write_bytes(b"P3\n10900 10900\n255\n" + b"1 " * 1000)


def plain_texture(path):
    small = io.BytesIO()
    Image.new("RGB", (4, 4)).save(small, "dds")
    head = bytearray(small.getvalue()[:128])
    head[12:20] = struct.pack("<II", 10900, 10900)
    path.write_bytes(head + bytes(1000))


def long_runs(path):
    path.write_bytes(b"qoif" + struct.pack(">II", 10900, 10900) + bytes([3, 0]) + b"\xfd" * 2_000_000)


#: Kinds whose pixels lie in the file as they are.
STORED = ("raw.tif", "colours.bmp", "colours.ppm", "raw_cmyk.tif")

#: Kinds that are decoded at a part of their size.
REDUCED = ("baseline.jpg",)

#: Kinds that Pillow decodes in Python.
SLOW = ("colours.dds", "plain.ppm", "colours.qoi")

LARGE = {
    "plain.ppm": plain_text,
    "colours.qoi": long_runs,
    "raw_cmyk.tif": blank("CMYK", 10900),
    "float.tif": blank("F", 10900, compression="tiff_lzw"),
    "float_50.tif": blank("F", 7000, compression="tiff_lzw"),
    "cmyk.tif": blank("CMYK", 10900, compression="tiff_lzw"),
    "sixteen.tif": blank("I;16", 10900, compression="tiff_lzw"),
    "raw.tif": blank("RGB", 10900),
    "sixteen.png": blank("I;16", 10900, compress_level=1),
    "alpha.png": blank("RGBA", 10900, compress_level=1),
    "baseline.jpg": blank("RGB", 10900),
    "progressive.jpg": blank("RGB", 10900, progressive=True, subsampling=0),
    "colours.sgi": blank("RGB", 10900),
    "colours.bmp": blank("RGB", 10900),
    "colours.ppm": blank("RGB", 10900),
    "alpha.tga": blank("RGBA", 10900, compression="tga_rle"),
    "palette.gif": blank("P", 10900),
    "colours.dds": plain_texture,
    "bits.tif": blank("1", 10900, compression="group4"),
    "lossless.webp": blank("RGBA", 7700, lossless=True, method=0),
    "colours.jp2": blank("RGB", 6100),
    "colours.avif": blank("RGB", 9700, speed=10),
}


SOME = ["float_50.tif", "colours.bmp", "colours.dds"]


@pytest.mark.parametrize("name", LARGE if os.environ.get("HANDFUL_SOAK") else SOME)
def test_large_images_take_little_memory(name, tmp_path):
    LARGE[name](tmp_path / name)
    said, peak, whole = read(tmp_path / name)
    assert peak < LIMIT, f"{peak >> 20} MiB: {said}"
    if name in STORED + REDUCED:
        assert whole < WHOLE, f"{whole >> 20} MiB: {said}"
    if name in SLOW:
        assert re.search("refused: .* decoded so slowly .* max_megapixels", said)


def deep_values(mode, shape):
    values = np.random.default_rng(0).integers(0, 2**15, shape)
    return values.astype({"F": np.float32, "I": np.int32, "I;16": np.uint16}[mode])


@pytest.mark.parametrize("kind", ["tiff", "bmp", "ppm", "dib"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "CMYK", "I;16"])
def test_rows_that_are_read_one_by_one_are_those_of_the_whole(kind, mode, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 53, 3), dtype=np.uint8)
    image = Image.fromarray(deep_values("I;16", (70, 53))) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
    file = io.BytesIO()
    try:
        image.save(file, kind)
    except (OSError, KeyError):
        pytest.skip(f"Pillow writes no {mode} as {kind}")
    whole = read_image(file.getvalue(), white=255)
    seen = []
    monkeypatch.setattr(strips, "SHRINK_PIXELS", 100)
    monkeypatch.setattr(reading, "stored_rows", lambda image: seen.append(strips.stored_rows(image)) or seen[-1])
    assert np.array_equal(read_image(file.getvalue(), white=255), whole)
    assert seen[0] is not None


@pytest.mark.parametrize("how", [{"compression": "tiff_lzw"}, {"tiffinfo": {274: 6}}, {"tiffinfo": {278: 7}}])
def test_other_tiffs_are_the_same_too(how, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 53, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "tiff", **how)
    whole = read_image(file.getvalue())
    monkeypatch.setattr(strips, "SHRINK_PIXELS", 100)
    assert np.array_equal(read_image(file.getvalue()), whole)


@pytest.mark.parametrize("kind", ["tiff", "bmp", "ppm"])
def test_rows_that_are_missing_are_said(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(strips, "SHRINK_PIXELS", 100)
    file = io.BytesIO()
    Image.new("RGB", (50, 40), (1, 2, 3)).save(file, kind)
    (tmp_path / "a").write_bytes(file.getvalue()[:4000])
    for source in (file.getvalue()[:4000], tmp_path / "a"):
        with pytest.raises(UserError, match=r"a cannot be read as an image: image file is truncated"):
            read_image(source, "a")


@pytest.mark.parametrize("kind", ["dds", "qoi"])
def test_kinds_that_are_decoded_slowly_have_fewer_pixels(kind):
    file = io.BytesIO()
    Image.new("RGB", (50, 40)).save(file, kind)
    with pytest.raises(UserError, match=rf"a.x cannot .* {kind.upper()} of its kind .* max_megapixels"):
        read_image(file.getvalue(), "a.x", max_pixels=4 * 2000 - 4)
    assert read_image(file.getvalue(), "a.x", max_pixels=4 * 2000).shape == (40, 50, 3)


@pytest.mark.parametrize("mode", ["F", "I", "I;16"])
def test_deep_pixels_are_the_same_in_strips(mode, tmp_path, monkeypatch):
    Image.fromarray(deep_values(mode, (70, 50))).save(tmp_path / "deep.tif")
    whole = read_image(tmp_path / "deep.tif", white=2.0**15)
    monkeypatch.setattr("handful.images.strips.DEEP_PIXELS", 10)
    assert np.array_equal(read_image(tmp_path / "deep.tif", white=2.0**15), whole)


def test_the_file_itself_and_the_mode_count(tmp_path):
    Image.new("RGB", (100, 80)).save(tmp_path / "a.sgi")  # 3 bytes for every pixel, 4 for what is decoded, 3 besides
    with pytest.raises(UserError, match=r"need as much memory as"):
        read_image(tmp_path / "a.sgi", max_pixels=9999)
    assert read_image(tmp_path / "a.sgi", max_pixels=10_100).shape == (80, 100, 3)


def test_icons_that_hold_large_images(tmp_path):
    Image.new("RGBA", (256, 256)).save(tmp_path / "a.ico", sizes=[(256, 256)])
    assert read_image(tmp_path / "a.ico", max_pixels=4 * 256 * 256 + 8).shape == (256, 256, 3)
    with pytest.raises(UserError, match=r"a\.ico cannot be read"):
        read_image(tmp_path / "a.ico", max_pixels=2 * 256 * 256)
