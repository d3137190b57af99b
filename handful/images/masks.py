"""Pictures that say by black and white where something is."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from handful.errors import UserError
from handful.images.colour import to_rgb
from handful.images.reading import open_raw

_HALF = 127
_ADVICE = "save it with 0 where the concept is not and 255 where it is"


def open_mask(path: str | Path) -> Image.Image:
    """Decode a mask; coloured pixels count by their brightest channel.

    A picture of the grey values 0 and 1 alone has its 1 for white.

    Args:
        path: of the file.

    Returns:
        The mask in mode L, 0 to 255, upright.

    Raises:
        UserError: the file cannot be read; some pixels are transparent; or brightness says nothing: no pixel is
            brighter than half though some are not black, or every pixel is though their colours differ.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/wing.png"
        >>> Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).save(path)
        >>> list(open_mask(path).tobytes())
        [0, 255]
    """
    image = open_raw(path)
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise UserError(f"{path}: a mask with transparent pixels; {_ADVICE}, without transparency")
    if image.mode != "P" and len(image.getbands()) == 1 and bool(
        np.isin(values := np.asarray(image), (0, 1)).all() and values.any()
    ):
        return Image.fromarray(values.astype(np.uint8) * 255)
    try:
        colours = np.asarray(to_rgb(image))
    except ValueError as error:
        raise UserError(f"{path} cannot be read as a mask: {error}") from None
    levels: npt.NDArray[np.uint8] = colours.max(axis=2)
    if levels.max() <= _HALF and np.asarray(image if image.mode.startswith(("I", "F")) else colours).any():
        raise UserError(f"{path}: no pixel of the mask is brighter than half, though some are not black; {_ADVICE}")
    if levels.min() > _HALF and (colours != colours[..., :1]).any() and (colours != colours[0, 0]).any():
        raise UserError(f"{path}: every pixel of the mask is brighter than half, whatever its colour; {_ADVICE}")
    return Image.fromarray(levels)
