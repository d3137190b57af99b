"""No image of any kind takes much memory: real files, each read in a process of its own whose peak is measured."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from handful.errors import UserError
from handful.images import read_image

#: Bytes beyond those of the process before.
LIMIT = 2**30

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
"""


def read(path):
    done = subprocess.run([sys.executable, "-c", _CHILD, str(path)], capture_output=True, text=True, check=True)
    *said, peak = done.stdout.splitlines()
    return " ".join(said), int(peak)


def blank(mode, side, **options):
    return lambda path: Image.new(mode, (side, side)).save(path, **options)


LARGE = {
    "float.tif": blank("F", 10900, compression="tiff_lzw"),
    "float_50.tif": blank("F", 7000, compression="tiff_lzw"),
    "cmyk.tif": blank("CMYK", 10900, compression="tiff_lzw"),
    "sixteen.tif": blank("I;16", 10900, compression="tiff_lzw"),
    "raw.tif": blank("RGB", 10900),
    "sixteen.png": blank("I;16", 10900, compress_level=1),
    "alpha.png": blank("RGBA", 10900, compress_level=1),
    "progressive.jpg": blank("RGB", 10900, progressive=True, subsampling=0),
    "colours.sgi": blank("RGB", 10900),
    "colours.bmp": blank("RGB", 10900),
    "colours.ppm": blank("RGB", 10900),
    "alpha.tga": blank("RGBA", 10900, compression="tga_rle"),
    "palette.gif": blank("P", 10900),
    "colours.dds": blank("RGB", 10900),
    "bits.tif": blank("1", 10900, compression="group4"),
    "lossless.webp": blank("RGBA", 7700, lossless=True, method=0),
    "colours.jp2": blank("RGB", 6100),
    "colours.avif": blank("RGB", 9700, speed=10),
}


@pytest.mark.parametrize("name", LARGE if os.environ.get("HANDFUL_SOAK") else ["float_50.tif", "colours.sgi"])
def test_large_images_take_little_memory(name, tmp_path):
    LARGE[name](tmp_path / name)
    said, peak = read(tmp_path / name)
    assert peak < LIMIT, f"{peak >> 20} MiB: {said}"


@pytest.mark.parametrize("mode", ["F", "I", "I;16"])
def test_deep_pixels_are_the_same_in_strips(mode, tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 2**15, (70, 50))
    kinds = {"F": np.float32, "I": np.int32, "I;16": np.uint16}
    Image.fromarray(values.astype(kinds[mode])).save(tmp_path / "deep.tif")
    whole = read_image(tmp_path / "deep.tif", white=2.0**15)
    monkeypatch.setattr("handful.images.reading._DEEP_PIXELS", 10)
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
