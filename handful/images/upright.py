"""Positions on a picture as it is stored, where its file says that it is to be turned."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from handful.images.placement import Box, cut_box
from handful.images.reading import orientation

_TURNED = (Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90)
_MIRRORED_X = (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.TRANSVERSE,
               Image.Transpose.ROTATE_90)  # fmt: skip
_MIRRORED_Y = (Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_180, Image.Transpose.TRANSVERSE,
               Image.Transpose.ROTATE_270)  # fmt: skip

_WIDTH, _HEIGHT = 256, 257  # fields of TIFF
_NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # parts of a PNG that may say how it is turned


@dataclass(frozen=True)
class Turn:
    """How a stored picture is turned upright.

    Tables of boxes and parts count the pixels of the file, as programs see them that pass its EXIF tag over.

    Attributes:
        stored: width and height in the file.
        how: None for a picture that lies as it is.

    Example:
        >>> turn = Turn((40, 20), Image.Transpose.ROTATE_270)  # a quarter to the right
        >>> turn.size, turn.points(torch.tensor([[0.0, 0.0]])).tolist(), turn.box((0, 0, 10, 5))
        ((20, 40), [[19.0, 0.0]], (15.0, 0.0, 20.0, 10.0))
    """

    stored: tuple[int, int]
    how: Image.Transpose | None = None

    @classmethod
    def of(cls, source: bytes | str | Path) -> "Turn":
        """Read it off a file's header.

        Raises:
            OSError: it is no image.
        """
        with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
            picture = Image.open(file)
            if isinstance(picture, TiffImageFile):  # Pillow may have swapped its size already
                picture.info.pop("xmp", None)  # as it is read
                return cls((int(picture.tag_v2[_WIDTH]), int(picture.tag_v2[_HEIGHT])), orientation(picture))
            complete = picture.format == "PNG" and not _noted_behind_pixels(file)
            return cls(picture.size, orientation(picture, complete=complete))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture, upright."""
        return self.stored[::-1] if self.how in _TURNED else self.stored

    def points(self, xy: Tensor) -> Tensor:
        """Pixel centres `(…, 2)` of the stored picture → of the upright one."""
        return self._moved(xy.double() + 0.5) - 0.5

    def box(self, box: Box) -> Box:
        """A box on the stored picture → on the upright one, in whole pixels inside it."""
        edges = cut_box(self.stored, box)
        if self.how is None:
            return edges
        corners = self._moved(torch.tensor(edges, dtype=torch.float64).view(2, 2))
        left, top = corners.amin(dim=0).tolist()
        right, bottom = corners.amax(dim=0).tolist()
        return left, top, right, bottom

    def picture(self, image: Image.Image) -> Image.Image:
        """A picture that lies over the stored one, such as a mask → over the upright one."""
        return image if self.how is None or image.size != self.stored else image.transpose(self.how)

    def _moved(self, xy: Tensor) -> Tensor:
        """Positions `(…, 2)` counted from the corner."""
        x, y = xy.unbind(-1)
        x = self.stored[0] - x if self.how in _MIRRORED_X else x
        y = self.stored[1] - y if self.how in _MIRRORED_Y else y
        return torch.stack((y, x) if self.how in _TURNED else (x, y), dim=-1)


def _noted_behind_pixels(file: BinaryIO) -> bool:
    """Whether a PNG has notes behind its pixels, which Pillow finds only once it has decoded these."""
    before, pixels, noted = file.tell(), False, False
    file.seek(8)
    while len(head := file.read(8)) == 8 and not noted:
        pixels = pixels or head[4:] == b"IDAT"
        noted = pixels and head[4:] in _NOTES
        file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)  # its content and check sum
    file.seek(before)
    return noted
