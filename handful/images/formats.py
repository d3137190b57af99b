"""The image formats that are read, known by a file's name or by its first bytes."""

from PIL import Image

# Formats that Pillow decodes itself from content that names its kind. Left out: EPS, which starts a Ghostscript
# process; WMF and the scientific stubs, which need a handler; kinds so loosely marked that any bytes would pass.
_FORMATS = (
    "PNG", "JPEG", "MPO", "TIFF", "WEBP", "GIF", "BMP", "DIB", "JPEG2000", "AVIF", "HEIF", "PPM", "QOI", "PSD", "ICO",
    "ICNS", "DDS", "SGI", "SUN", "PCX", "XBM", "XPM",
)  # fmt: skip

# TGA files begin with no mark: only the name says so.
_BY_NAME = ("TGA",)

Image.init()

#: Formats that the installed Pillow reads; HEIF where the pillow-heif plug-in is registered.
FORMATS: tuple[str, ...] = tuple(name for name in _FORMATS if name in Image.OPEN)

#: Ends of the names of image files, in lower case.
IMAGE_SUFFIXES: tuple[str, ...] = tuple(
    sorted(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS + _BY_NAME)
)

_SUFFIXES_BY_NAME = tuple(s for s, name in Image.registered_extensions().items() if name in _BY_NAME)

#: Bytes from a file's beginning that `looks_like_image` needs.
HEAD = 32

_MARKS = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"8BPS\x00\x01", b"qoif", b"DDS ", b"icns",
)  # fmt: skip
_BOXES = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"heif")


def is_image_name(path: str) -> bool:
    """Whether a file's name ends as those of images do, in whatever case.

    Example:
        >>> is_image_name("owl/IMG_0042.JPG"), is_image_name("owl/notes.txt")
        (True, False)
    """
    return path.lower().endswith(IMAGE_SUFFIXES)


def looks_like_image(head: bytes) -> bool:
    """Whether a file that begins with these bytes is an image of a kind that is read, whatever its name.

    Args:
        head: the first `HEAD` bytes.

    Example:
        >>> looks_like_image(b"GIF89a" + bytes(26)), looks_like_image(b"<html>")
        (True, False)
    """
    if head.startswith(_MARKS) or (head[:2] == b"BM" and head[6:10] == bytes(4)):
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    if head[4:8] == b"ftyp" and head[8:12] in _BOXES:
        return True
    return head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b"\n\r \t" and len(head) > 6


def allowed_formats(name: str) -> tuple[str, ...]:
    """Return the formats to try for a file of that name."""
    return FORMATS + _BY_NAME if name.lower().endswith(_SUFFIXES_BY_NAME) else FORMATS


def unreadable_kind(head: bytes) -> str:
    """Say what content is that is not an image to be read, as the end of a sentence."""
    if not head:
        return "it is empty"
    if head[4:8] == b"ftyp" and head[8:12] in _BOXES[2:]:
        return "it is a HEIC photograph, which needs the package pillow-heif; or save it as JPEG"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS in the place of the image; run git lfs pull"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<svg", b"{")):
        return "it holds text, such as a web page instead of an image"
    named = {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"GIF8": "GIF", b"II": "TIFF", b"MM": "TIFF", b"8BPS": "PSD"}
    if looks_like_image(head):
        name = next((f"a {name}" for mark, name in named.items() if head.startswith(mark)), "an image")
        return f"it begins like {name}, but is damaged or of a kind that is not read; save it as PNG or JPEG"
    return "its content is in no known format"
