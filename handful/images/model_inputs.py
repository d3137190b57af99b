"""What a classifier must know about its images: class names, size and normalisation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from handful.errors import UserError, did_you_mean
from handful.images.placement import Framing, Placement

#: Largest side of images in pixels: one of them takes 0.8 GB as numbers.
LARGEST_IMAGE = 8192


@runtime_checkable
class DescribedImages(Protocol):
    """Data that say what their images are like."""

    @property
    def class_names(self) -> Sequence[str]:
        """By class number."""

    @property
    def mean(self) -> Sequence[float]:
        """Of the channels, for pixel values in [0, 1]."""

    @property
    def std(self) -> Sequence[float]:
        """Of the channels, likewise."""

    image_size: int


def centre_crop(image: Tensor, size: int) -> Tensor:
    """Return the middle `(C, size, size)` of an image `(C, h, w)` with h, w >= size.

    Example:
        >>> centre_crop(torch.arange(9).reshape(1, 3, 3), 1).tolist()
        [[[4]]]
    """
    top, left = round((image.shape[1] - size) / 2), round((image.shape[2] - size) / 2)
    return image[:, top : top + size, left : left + size]


@dataclass(frozen=True)
class Inputs:
    """What a model must know about its images; a loaded model carries it as `model.inputs`.

    Attributes:
        class_names: by label.
        image_size: side in pixels.
        mean: of the channels, for pixel values in [0, 1].
        std: of the channels.
        fit: how pictures are brought into the square: "crop", "pad", "squash" or the text of a
            `handful.images.placement.Framing`.
        white: value of white in pictures whose type does not say it (32-bit whole numbers, floating point).

    Example:
        >>> inputs = Inputs(["owl", "wren"], 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        >>> white = Image.new("RGB", (20, 10), "white")
        >>> inputs.image(white).shape, float(inputs.image(white).max())
        (torch.Size([3, 8, 8]), 2.0)
    """

    class_names: Sequence[str]
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    fit: str = "crop"
    white: float | None = None

    @classmethod
    def of(cls, data: DescribedImages) -> "Inputs":
        """Those of a data module."""
        fit: str = getattr(data, "fit", "crop")  # data of other code crop
        white: float | None = getattr(data, "white", None)
        return cls(list(data.class_names), data.image_size, list(data.mean), list(data.std), fit, white)

    @classmethod
    def from_record(cls, record: Mapping[str, Any], where: str) -> "Inputs":
        """Those that a file of results holds.

        Args:
            record: with `class_names`, `image_size`, `mean` and `std`.
            where: the file, for the sentence.

        Raises:
            UserError: a value is something else.
        """
        names, size = record["class_names"], record["image_size"]
        mean, std = record["mean"], record["std"]
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise UserError(f"{where}: class_names must be a list of names")
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LARGEST_IMAGE:
            raise UserError(f"{where}: image_size must be a number of pixels up to {LARGEST_IMAGE}, not {size!r:.80}")
        for key, values in (("mean", mean), ("std", std)):
            numbers = isinstance(values, list) and all(isinstance(value, int | float) for value in values)
            if not numbers or len(values) != 3 or not all(map(math.isfinite, values)):
                raise UserError(f"{where}: {key} must be a list of three numbers, not {values!r}")
        if min(std) <= 0:
            raise UserError(f"{where}: std must be above 0, not {std!r}")
        fit = record.get("fit", "crop")  # records of before know the crop alone
        try:
            Framing.of(str(fit))
        except UserError as error:
            raise UserError(f"{where}: fit: {error}") from None
        white = record.get("white")
        if white is not None and not (isinstance(white, int | float) and 0 < white < math.inf):
            raise UserError(f"{where}: white must be a number above 0, not {white!r:.80}")
        return cls(names, size, mean, std, fit, white)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 pixels `(…, 3, H, W)` → float32, as in training, to the last bit."""
        scale = torch.tensor([1 / (255 * s) for s in self.std], dtype=torch.float32).view(3, 1, 1)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], dtype=torch.float32)
        return pixels.to(torch.float32).mul_(scale).add_(shift.view(3, 1, 1))

    def denormalise(self, images: Tensor) -> Tensor:
        """Normalised images `(…, 3, H, W)` → [0, 1]."""
        mean, std = (torch.tensor(list(part), dtype=torch.float32).view(3, 1, 1) for part in (self.mean, self.std))
        return (images.detach().float().cpu() * std + mean).clamp(0, 1)

    def image(self, picture: Image.Image) -> Tensor:
        """A picture → the image `(3, image_size, image_size)` that the model sees, normalised."""
        return self.normalise(_square(picture, self.image_size, self.fit))

    def shown(self, picture: Image.Image, side: int) -> Tensor:
        """A picture → the same part of it for the eye, `(3, S, S)` in [0, 1], S at least `side`."""
        return _square(picture, max(side, self.image_size), self.fit).float() / 255

    def label(self, name: str) -> int:
        """The label of a class.

        Raises:
            UserError: there is no such class.
        """
        if name not in self.class_names:
            raise UserError(f"there is no class {name!r}{did_you_mean(name, self.class_names)}")
        return list(self.class_names).index(name)


def _square(picture: Image.Image, size: int, fit: str) -> Tensor:
    pixels: Any = np.array(Placement.of(picture.size, size, fit).square(picture))
    return torch.from_numpy(pixels).permute(2, 0, 1)
