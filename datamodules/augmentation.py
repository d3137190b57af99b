"""Augmentations by name.

Each is a function of (image, seed), so that what an image looks like in an epoch depends on nothing else: not on
workers, ranks, batches or the global random state. `together` moves boxes and masks of the image with it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from datamodules.samplers import mixed
from handful.errors import UserError, did_you_mean
from handful.images import centre_crop

AugmentationName = Literal["none", "flip", "crop_flip", "standard", "resized_crop", "timm"]

#: An image with its boxes and masks, as torchvision's tensors, which its transforms move alike.
Sample = dict[str, Tensor]

_PADDING = 4


class Augmentation(ABC):
    """uint8 image `(3, h, w)` with h, w >= size, and a seed → uint8 image `(3, size, size)`.

    Args:
        size: side of the square in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def __call__(self, image: Tensor, seed: int) -> Tensor:
        """Return the augmented image."""

    @abstractmethod
    def together(self, sample: Sample, seed: int) -> Sample:
        """Return the augmented image, the same as of the image alone, and what lies on it moved by the same draw.

        Args:
            sample: `tv_tensors` of one size: an `Image`, and any `BoundingBoxes` and `Mask`.
            seed: as for the image alone.
        """


def build_augmentation(name: AugmentationName, size: int, resampling: str | None = None) -> Augmentation:
    """Return the augmentation of that name for images of `size` pixels.

    "none": centre crop. "flip": centre crop, every second image flipped left to right. "crop_flip": random crop out of
    the image padded by 4 black pixels, then flip. "standard": the same, then colour jitter (brightness, contrast,
    saturation by 0.1) and TrivialAugmentWide, as the SLDD-Model is trained. "resized_crop": a random part of the
    image, 35 to 100 % of its area at a ratio of sides from 3:4 to 4:3, resized; then flip, and colour jitter by 0.2, as
    pretrained networks are adapted. "timm": timm's training transforms of the network that is trained.

    Args:
        name: of the augmentation.
        size: side of the images in pixels.
        resampling: how timm's resize, by the network's data config; None where no network is known yet.

    Raises:
        UserError: an unknown name.
    """
    known: dict[str, Callable[[int], Augmentation]] = {
        "none": _CentreCrop, "flip": _Flip, "crop_flip": _CropFlip, "standard": _Standard,
        "resized_crop": _ResizedCrop, "timm": lambda size: _timm(size, resampling),
    }  # fmt: skip
    if name not in known:
        names = get_args(AugmentationName)
        raise UserError(
            f"augmentation must be one of {', '.join(names)}, not {name!r}{did_you_mean(str(name), names)}."
        )
    return known[name](size)


def _timm(size: int, resampling: str | None) -> Augmentation:
    from datamodules.timm_augmentation import TimmAugmentation  # timm takes a second to import

    return TimmAugmentation(size, resampling)


def cropped(sample: Sample, top: int, left: int, size: int) -> Sample:
    """Return a square of an image and of what lies on it; black where it reaches beyond."""
    return {name: functional.crop(value, top, left, size, size) for name, value in sample.items()}


def flipped(sample: Sample) -> Sample:
    """Return an image and what lies on it, left and right exchanged."""
    return {name: functional.horizontal_flip(value) for name, value in sample.items()}


class _CentreCrop(Augmentation):
    def __call__(self, image: Tensor, seed: int) -> Tensor:
        return centre_crop(image, self.size)

    def together(self, sample: Sample, seed: int) -> Sample:
        height, width = sample["image"].shape[-2:]
        return cropped(sample, round((height - self.size) / 2), round((width - self.size) / 2), self.size)


class _Flip(_CentreCrop):
    def __call__(self, image: Tensor, seed: int) -> Tensor:
        image = centre_crop(image, self.size)
        return image.flip(-1) if mixed(seed, 0) % 2 else image

    def together(self, sample: Sample, seed: int) -> Sample:
        sample = super().together(sample, seed)
        return flipped(sample) if mixed(seed, 0) % 2 else sample


class _CropFlip(Augmentation):
    """Plain slicing with numbers drawn from the seed by arithmetic: some ten microseconds for a small image."""

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        top, left = self._corner(image, seed)
        seen = image[:, max(top, 0) : top + self.size, max(left, 0) : left + self.size]
        if seen.shape[1:] != (self.size, self.size):
            down, right = max(-top, 0), max(-left, 0)
            canvas = image.new_zeros(image.shape[0], self.size, self.size)
            canvas[:, down : down + seen.shape[1], right : right + seen.shape[2]] = seen
            seen = canvas
        return seen.flip(-1) if mixed(seed, 0) % 2 else seen

    def together(self, sample: Sample, seed: int) -> Sample:
        sample = cropped(sample, *self._corner(sample["image"], seed), self.size)
        return flipped(sample) if mixed(seed, 0) % 2 else sample

    def _corner(self, image: Tensor, seed: int) -> tuple[int, int]:
        height, width = image.shape[-2:]
        top = mixed(seed, 1) % (height + 2 * _PADDING - self.size + 1) - _PADDING
        left = mixed(seed, 2) % (width + 2 * _PADDING - self.size + 1) - _PADDING
        return top, left


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Let torchvision, which draws from the global CPU generator, draw from a seed; the generator's state stays.

    `torch.manual_seed` would seed the generators of the GPUs as well.
    """
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(state)


class _Standard(_CropFlip):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.jitter, self.trivial = v2.ColorJitter(0.1, 0.1, 0.1), v2.TrivialAugmentWide()

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        image = super().__call__(image, seed)
        with drawing_from(seed):
            colours: Tensor = self.trivial(self.jitter(image))
        return colours

    def together(self, sample: Sample, seed: int) -> Sample:
        sample = super().together(sample, seed)
        with drawing_from(seed):
            image = self.jitter(sample["image"])
            moving = _MovingTrivial({name: value for name, value in sample.items() if name != "image"})
            return {"image": moving(image), **moving.rest}


class _MovingTrivial(v2.TrivialAugmentWide):
    """TrivialAugmentWide, which refuses boxes and masks: its affine operations move them all the same.

    Args:
        rest: boxes and masks; moved once the image has been transformed.
    """

    _AFFINE = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")

    def __init__(self, rest: Sample) -> None:
        super().__init__()
        self.rest = rest

    def _apply_image_or_video_transform(self, image: Any, transform_id: str, magnitude: float, **options: Any) -> Any:
        apply = super()._apply_image_or_video_transform
        if transform_id in self._AFFINE:
            self.rest = {name: apply(value, transform_id, magnitude, **options) for name, value in self.rest.items()}
        return apply(image, transform_id, magnitude, **options)


class _ResizedCrop(Augmentation):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.transform = v2.Compose([
            v2.RandomResizedCrop(size, scale=(0.35, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.2, 0.2, 0.2),
        ])  # fmt: skip

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        with drawing_from(seed):
            transformed: Tensor = self.transform(image)
        return transformed

    def together(self, sample: Sample, seed: int) -> Sample:
        with drawing_from(seed):
            transformed: Sample = self.transform(sample)
        return transformed


def as_sample(image: Tensor, boxes: Tensor, masks: Tensor) -> Sample:
    """Return an image with boxes and masks as torchvision moves them.

    Args:
        image: uint8 `(3, h, w)`.
        boxes: left, top, right, bottom in its pixels, `(K, 4)`; they are not cut where the image ends.
        masks: bool `(M, h, w)`.

    Raises:
        UserError: this torchvision cuts all boxes where the image ends.
    """
    try:
        placed: Any = tv_tensors.BoundingBoxes(
            boxes.to(torch.float64),
            format=tv_tensors.BoundingBoxFormat.XYXY,
            canvas_size=tuple(image.shape[-2:]),
            clamping_mode=None,
        )  # type: ignore[call-overload, unused-ignore]
    except TypeError:
        raise UserError("boxes and parts of augmented images need a later torchvision, whose BoundingBoxes take "
                        "clamping_mode") from None  # fmt: skip
    return {"image": tv_tensors.Image(image), "boxes": placed, "masks": tv_tensors.Mask(masks)}
