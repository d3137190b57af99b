import contextlib
import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image, ImageOps

from handful.errors import UserError
from handful.images import IMAGE_SUFFIXES, looks_like_image, open_image, read_image, strips, upright_rgb
from handful.images.colour import to_rgb

CLEAR_BLACK = (0, 0, 0, 0)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(mode="RGB", size=(24, 16), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


# -- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "webp", "gif", "avif", "jpeg2000", "ppm", "tga", "ico", "qoi",
                                  "pcx", "sgi", "dds", "jpeg", "icns"])  # fmt: skip
def test_formats_that_pillow_reads_are_read_and_known_by_content(kind):
    size = (32, 32) if kind in ("ico", "icns") else (24, 16)
    content = encoded(noise(size=size), kind)
    assert read_image(content, f"x.{kind}").shape[2] == 3
    if kind not in ("tga", "ico", "pcx", "sgi"):  # of loose marks
        assert looks_like_image(content[:32])
        assert read_image(content, "named.txt").shape == read_image(content, f"x.{kind}").shape


def test_suffixes_hold_what_cameras_and_phones_write():
    assert {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".tif", ".avif", ".jp2", ".bmp", ".gif", ".ppm"} <= set(
        IMAGE_SUFFIXES
    )
    assert not {".eps", ".pdf", ".svg", ".wmf", ".mpg", ".h5"} & set(IMAGE_SUFFIXES)


def test_postscript_starts_no_program():
    content = encoded(noise(), "eps")
    with pytest.raises(UserError, match=r"x\.png cannot be read as an image: its content is in no known format"):
        open_image(content, "x.png")


# -- transparency -----------------------------------------------------------------------------------------------------


def hidden_pair(mode, kind):
    """Two files that differ only in the colours under full transparency."""
    files = []
    for seed in (1, 2):
        image = noise("L" if mode == "LA" else "RGB", seed=seed)
        image.paste(120, (0, 0, 12, 16)) if mode == "LA" else image.paste((9, 120, 30), (0, 0, 12, 16))
        alpha = Image.new("L", image.size, 0)
        alpha.paste(255, (0, 0, 12, 16))
        image.putalpha(alpha)
        files.append(encoded(image, kind, **({"lossless": True, "exact": True} if kind == "webp" else {})))
    return files


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "png"), ("RGBA", "webp"), ("RGBA", "tiff"), ("LA", "png"),
                                            ("RGBA", "tga"), ("LA", "tiff")])  # fmt: skip
def test_the_colour_hidden_under_alpha_decides_nothing(mode, kind):
    one, other = hidden_pair(mode, kind)
    assert one != other
    pixels = read_image(one, f"x.{kind}")
    assert np.array_equal(pixels, read_image(other, f"x.{kind}"))
    assert (pixels[:, 12:] == 255).all()
    assert (pixels[:, :12, 1] == 120).all()


def test_palette_and_single_colour_transparency_show_the_background():
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.putpixel((0, 0), 0)
    for kind, clear in (("png", 0), ("gif", 0), ("png", bytes([0, 255]))):
        pixels = read_image(encoded(palette, kind, transparency=clear))
        assert pixels[0, 0].tolist() == [255, 255, 255]
        assert pixels[1, 1].tolist() == [200, 0, 0]
    rgb = Image.new("RGB", (4, 4), (1, 2, 3))
    rgb.putpixel((0, 0), (7, 7, 7))
    assert read_image(encoded(rgb, "png", transparency=(7, 7, 7)))[0, :2].tolist() == [[255] * 3, [1, 2, 3]]
    grey = Image.new("L", (4, 4), 5)
    grey.putpixel((0, 0), 7)
    assert read_image(encoded(grey, "png", transparency=7))[0, :2, 0].tolist() == [255, 5]
    bits = Image.new("1", (4, 4), 1)
    bits.putpixel((0, 0), 0)
    assert read_image(encoded(bits, "png", transparency=0))[0, :2, 0].tolist() == [255, 255]
    deep = Image.fromarray(np.array([[0, 257 * 9]], dtype=np.uint16))
    assert read_image(encoded(deep, "png", transparency=0))[0, :, 0].tolist() == [255, 9]


def png(width, height, bits, kind, rows, *chunks):
    """A PNG written by hand: what Pillow does not write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    extra = b"".join(chunk(name, data) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("bits", "row", "clear", "expected"), [
    (2, b"\x1b", 1, [0, 255, 170, 255]), (2, b"\x1b", 0, [255, 85, 170, 255]), (2, b"\x1b", 2, [0, 85, 255, 255]),
    (4, b"\x05\x9f", 5, [0, 255, 153, 255]), (4, b"\x05\x9f", 9, [0, 85, 255, 255]), (1, b"\x0f", 0, [255] * 8),
    (8, b"\x00\x05\x07\xff", 5, [0, 255, 7, 255]),
])  # fmt: skip
def test_the_clear_grey_is_one_of_the_samples_of_the_file(bits, row, clear, expected):
    content = png(len(expected), 1, bits, 0, b"\0" + row, (b"tRNS", struct.pack(">H", clear)))
    assert read_image(content)[0, :, 0].tolist() == expected


def test_the_clear_colour_of_16_bits():
    row = b"".join(struct.pack(">3H", *[value] * 3) for value in (0x8001, 0x0500, 0x7000))
    for clear, expected in ((0x8001, [255, 5, 112]), (0x0005, [128, 5, 112]), (0x0500, [128, 255, 112])):
        content = png(3, 1, 16, 2, b"\0" + row, (b"tRNS", struct.pack(">3H", *[clear] * 3)))
        assert read_image(content)[0, :, 0].tolist() == expected


def test_half_transparent_pixels_and_multiplied_colours_mix_with_white():
    half = read_image(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 128)), "png"))[0, 0]
    assert np.abs(half.astype(int) - [255, 127, 127]).max() <= 1
    multiplied = Image.new("RGBA", (2, 2), (255, 0, 0, 128)).convert("RGBa")
    assert np.abs(np.asarray(to_rgb(multiplied))[0, 0].astype(int) - [255, 127, 127]).max() <= 1


def test_an_opaque_alpha_changes_nothing():
    image = noise()
    assert np.array_equal(read_image(encoded(image.convert("RGBA"), "png")), np.asarray(image))


# -- depth ------------------------------------------------------------------------------------------------------------


def test_white_of_sixteen_bits_is_the_types_and_never_an_images_own():
    for kind in ("png", "tiff"):
        dark = Image.fromarray(np.array([[0, 100, 257 * 40]], dtype=np.uint16))
        assert read_image(encoded(dark, kind))[0, :, 0].tolist() == [0, 0, 40]
    assert read_image(b"P5 2 1 1000\n" + struct.pack(">2H", 0, 500))[0, :, 0].tolist() == [0, 128]
    assert read_image(b"P5 2 1 65535\n" + struct.pack(">2H", 10, 200))[0, :, 0].tolist() == [0, 1]


def tiff(values, bits, photometric=1, sample_format=1):
    """A TIFF of one row, written field by field."""
    raw = values.tobytes()
    fields = [(256, 3, 1, values.shape[1]), (257, 3, 1, 1), (258, 3, 1, bits), (259, 3, 1, 1),
              (262, 3, 1, photometric), (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, len(raw)),
              (339, 3, 1, sample_format)]  # fmt: skip
    table = b"".join(struct.pack("<HHI", *f[:3]) + struct.pack("<I", f[3]) for f in fields)
    raw += b"\0" * (len(raw) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(raw)) + raw + struct.pack("<H", len(fields)) + table + bytes(4)


def test_sixteen_bit_colour_and_other_depths_of_tiff():
    assert read_image(tiff(np.array([[0, 32767]], dtype="<i2"), 16, sample_format=2))[0, :, 0].tolist() == [0, 255]
    inverted = tiff(np.array([[0, 65535]], dtype="<u2"), 16, photometric=0)
    assert read_image(inverted)[0, :, 0].tolist() == [255, 0]
    with pytest.raises(UserError, match=r"between 0 and 32767"):
        read_image(tiff(np.array([[-5, 9]], dtype="<i2"), 16, sample_format=2), "x.tif")


def test_signed_bytes_and_unsigned_words_are_what_the_file_says():
    """Pillow takes signed bytes for unsigned ones, and 32 unsigned bits for signed ones."""
    assert read_image(tiff(np.array([[0, 127]], dtype="i1"), 8, sample_format=2))[0, :, 0].tolist() == [0, 255]
    with pytest.raises(UserError, match=r"from -5 to 9, not between 0 and 127"):
        read_image(tiff(np.array([[-5, 9]], dtype="i1"), 8, sample_format=2), "x.tif")
    words = tiff(np.array([[0, 2**32 - 1]], dtype="<u4"), 32)
    assert read_image(words, white=2**32 - 1)[0, :, 0].tolist() == [0, 255]
    with pytest.raises(UserError, match=r"from 0 to 4\.29497e\+09, and nothing says"):
        read_image(words, "x.tif")


def test_a_known_kind_that_is_not_read_is_called_by_its_name():
    half = tiff(np.array([[0, 1]], dtype="<f2"), 16, sample_format=3)
    with pytest.raises(UserError, match=r"x\.tif cannot be read as an image: it begins like a TIFF, but is"):
        read_image(half, "x.tif")


def test_a_picture_that_was_opened_elsewhere_is_read_as_its_file_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise("RGBA").save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(upright_rgb(image)), read_image(tmp_path / "a.png"))
        turned = ImageOps.exif_transpose(image)
    assert np.array_equal(np.asarray(upright_rgb(turned)), read_image(tmp_path / "a.png"))
    with Image.open(tmp_path / "a.png") as image:  # turned by hand, which leaves the tag
        turned = image.transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(np.asarray(upright_rgb(turned)), read_image(tmp_path / "a.png"))
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    with Image.open(tmp_path / "cut.png") as image, pytest.raises(UserError, match="the picture cannot be read"):
        upright_rgb(image)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_wider_values_need_their_white_value(dtype):
    content = encoded(Image.fromarray(np.array([[0, 50, 100]], dtype=dtype)), "tiff")
    with pytest.raises(UserError, match=r"scan\.tif cannot be read as an image: .*from 0 to 100.* set data\.white"):
        read_image(content, "scan.tif")
    assert read_image(content, "scan.tif", white=250)[0, :, 0].tolist() == [0, 51, 102]
    with pytest.raises(UserError, match=r"scan\.tif .* lie from 0 to 100, not between 0 and 99"):
        read_image(content, "scan.tif", white=99)
    with pytest.raises(UserError, match=r"nan\.tif"):
        read_image(encoded(Image.fromarray(np.array([[np.nan]], dtype="float32")), "tiff"), "nan.tif", white=1)


def test_colour_spaces_become_rgb():
    red = Image.new("RGB", (4, 4), (250, 0, 0))
    kinds = [("CMYK", "jpeg"), ("CMYK", "tiff"), ("L", "png"), ("1", "png")]
    if int(PIL.__version__.split(".")[0]) >= 13:  # before, Pillow did not read what it wrote
        kinds.append(("YCbCr", "tiff"))
    for mode, kind in kinds:
        assert read_image(encoded(red.convert(mode), kind)).shape == (4, 4, 3)
    lab = Image.fromarray(np.array([[[255, 0, 0]]], dtype=np.uint8), "LAB")
    assert read_image(encoded(lab, "tiff")).min() >= 254


# -- orientation and EXIF ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_is_shown_upright(kind, value):
    upright = np.zeros((16, 24, 3), dtype=np.uint8)
    upright[:8, :12] = 250  # one bright quarter: at the top left
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, 3),
    }[value]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = value
    pixels = read_image(encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif), f"x.{kind}")
    assert pixels.shape == upright.shape
    assert (pixels[2:6, 2:10] > 200).all()
    assert pixels[10:, 14:].max() < 60


@pytest.mark.parametrize(
    "block",
    [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x05" + b"\x01\x12\0\x03" * 5,
     b"Exif\0\0" + b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0" + bytes(4),
     b"Exif\0\0" + b"II*\0\x08\0\0\0\x01\0\x12\x01\x0c\0\x01\0\0\0\x1a\0\0\0" + bytes(4), b"", b"\xff" * 200],
)  # fmt: skip
def test_a_broken_exif_block_costs_no_picture(block):
    plain = encoded(noise(), "jpeg")
    content = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]
    assert np.array_equal(read_image(content), read_image(plain))


def test_a_tag_that_cannot_be_written_again_still_turns_the_picture():
    # a second entry that points beyond the block: the orientation can be read, the block not written again
    raw = b"Exif\0\0MM\0*\0\0\0\x08\0\x02" + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    raw += struct.pack(">HHII", 0x8298, 5, 3, 0xFFFFFF00) + bytes(4)
    plain = encoded(noise(), "jpeg")
    content = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(raw) + 2) + raw + plain[2:]
    assert read_image(content).shape == (24, 16, 3)


# -- damage and size --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "tiff", "bmp", "jpeg2000", "avif", "ico", "ppm"])
def test_damaged_files_end_in_one_sentence_that_names_them(kind):
    whole = encoded(noise(size=(32, 32)), kind)
    rng = np.random.default_rng(0)
    for cut in (0, 3, 17, len(whole) // 3, len(whole) // 2):
        with pytest.raises(UserError, match=r"^some/x\.img cannot be read as an image: [^\n]*\.$"):
            open_image(whole[:cut], "some/x.img")
    for _ in range(25):
        flipped = bytearray(whole)
        for place in rng.integers(0, len(whole), 6):
            flipped[place] ^= int(rng.integers(1, 256))
        with contextlib.suppress(UserError):  # anything else is a traceback
            assert open_image(bytes(flipped), "x.img").mode == "RGB"


def test_what_is_no_image_is_said():
    for content, what in ((b"", "it is empty"), (b"<!DOCTYPE html><p>404", "it holds text"),
                          (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC")):  # fmt: skip
        with pytest.raises(UserError, match=what):
            open_image(content, "x.jpg")


def test_large_images_are_refused_or_allowed_by_a_limit():
    content = encoded(noise(size=(100, 80)), "png")
    with pytest.raises(UserError, match=r"x\.png .* more than 0 million pixels; allow more with max_megapixels"):
        open_image(content, "x.png", max_pixels=7998)
    assert open_image(content, "x.png", max_pixels=8000).size == (100, 80)


def test_extreme_shapes_and_two_hundred_megapixels_take_little_memory(tmp_path):
    """In a process of its own, whose largest memory is measured."""
    Image.fromarray(np.arange(20000, dtype=np.uint32).astype(np.uint8)[None]).save(tmp_path / "thin.png")
    Image.new("L", (16320, 12240), 90).save(tmp_path / "large.jpg", quality=20)
    code = (
        "from handful.images import read_image\n"
        "def peak():\n"  # what getrusage says is inherited from the process that started this one
        "    return int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])\n"
        "before = peak()\n"
        f"thin = read_image({str(tmp_path / 'thin.png')!r}, size=224)\n"
        f"large = read_image({str(tmp_path / 'large.jpg')!r}, size=224, max_pixels=250_000_000)\n"
        "print(thin.shape, large.shape, (peak() - before) // 1024)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    shapes, used = out.rsplit(" ", 1)
    assert shapes.strip() == "(224, 1792, 3) (224, 298, 3)"
    assert int(used) < 120


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I;16", "F"])
def test_an_image_that_is_shrunk_while_read_looks_the_same(mode, monkeypatch):
    smooth = Image.fromarray(np.add.outer(np.arange(700), np.arange(900)).astype(np.float32) * 0.15)
    smooth = Image.fromarray(np.asarray(smooth).astype(np.uint16) * 257) if mode == "I;16" else smooth
    image = smooth if mode in ("I;16", "F") else smooth.convert("L").convert(mode)
    content = encoded(image, "tiff")
    expected = read_image(content, size=20, white=255)
    monkeypatch.setattr(strips, "SHRINK_PIXELS", 100_000)
    assert open_image(content, least=20, white=255).size == (53, 42)
    assert np.abs(read_image(content, size=20, white=255).astype(int) - expected).max() <= 3


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.png cannot be read: No such file"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize(("kind", "times"), [("webp", 2), ("jpeg2000", 3.125), ("avif", 1.25)])
def test_a_format_whose_decoder_needs_more_memory_counts_for_more(kind, times):
    file = io.BytesIO()
    Image.new("RGB", (100, 80)).save(file, kind)
    needed = int(8000 * times + len(file.getvalue()) / 8)
    with pytest.raises(UserError, match=r"x .* need as much memory as .* max_megapixels"):
        open_image(file.getvalue(), "x", max_pixels=needed - 1)
    assert open_image(file.getvalue(), "x", max_pixels=needed + 1).size == (100, 80)


@pytest.mark.parametrize("chunks", [[], [(b"PLTE", b"")], [(b"PLTE", b"\1\2\3\4")], [(b"tRNS", b"\0")]])
def test_a_palette_that_is_missing_or_short_is_no_traceback(chunks):
    content = png(2, 1, 8, 3, b"\0\1\0", *chunks)
    with contextlib.suppress(UserError):
        assert read_image(content, "a.png").shape == (1, 2, 3)
    if not chunks:
        with pytest.raises(UserError, match=r"a\.png cannot be read as an image"):
            read_image(content, "a.png")


@pytest.mark.parametrize("tag", [700, 34665, 34853, 33723, 34675])
@pytest.mark.parametrize("turned", [1, 6])
def test_a_tiff_is_turned_whatever_its_other_fields_hold(tag, turned):
    """Pillow turns a TIFF itself, and rewrites its XMP, where it fails on a field of another type."""
    fields = {256: 2, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 2, 274: turned}
    count = len(fields) + 1
    entries = {key: struct.pack("<HHIHH", key, 3, 1, value, 0) for key, value in fields.items()}
    entries[tag] = struct.pack("<HHII", tag, 3, 5, 10 + 2 + 12 * count + 4)
    content = b"II*\0" + struct.pack("<I", 10) + b"\xff\x00" + struct.pack("<H", count)
    content += b"".join(entries[key] for key in sorted(entries)) + bytes(4) + struct.pack("<5H", *range(5))
    assert read_image(content, "a.tif")[..., 0].tolist() == ([[255, 0]] if turned == 1 else [[255], [0]])
