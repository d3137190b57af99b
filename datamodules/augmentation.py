"""Augmentations by name.

Each is a function of (image, seed), so that what an image looks like in an epoch depends on nothing else: not on
workers, ranks, batches or the global random state.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor
from torchvision.transforms import v2

from datamodules.samplers import mixed
from handful.errors import UserError
from handful.images import centre_crop

# uint8 image (3, h, w) with h, w >= size, and a seed -> uint8 image (3, size, size)
Augmentation = Callable[[Tensor, int], Tensor]
AugmentationName = Literal["none", "flip", "crop_flip", "standard", "resized_crop"]

_PADDING = 4


def build_augmentation(name: AugmentationName, size: int) -> Augmentation:
    """Return the augmentation of that name for images of `size` pixels.

    "none": centre crop. "flip": centre crop, every second image flipped left to right. "crop_flip": random crop out of
    the image padded by 4 black pixels, then flip. "standard": the same, then colour jitter (brightness, contrast,
    saturation by 0.1) and TrivialAugmentWide, as the SLDD-Model is trained. "resized_crop": a random part of the
    image, 35 to 100 % of its area at a ratio of sides from 3:4 to 4:3, resized; then flip, and colour jitter by 0.2, as
    pretrained networks are adapted.

    Raises:
        UserError: an unknown name.
    """
    known: dict[str, Callable[[int], Augmentation]] = {
        "none": _CentreCrop, "flip": _Flip, "crop_flip": _CropFlip, "standard": _Standard,
        "resized_crop": _ResizedCrop,
    }  # fmt: skip
    if name not in known:
        raise UserError(f"augmentation must be one of {', '.join(get_args(AugmentationName))}, not {name!r}.")
    return known[name](size)


class _CentreCrop:
    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        return centre_crop(image, self.size)


class _Flip(_CentreCrop):
    def __call__(self, image: Tensor, seed: int) -> Tensor:
        image = centre_crop(image, self.size)
        return image.flip(-1) if mixed(seed, 0) % 2 else image


class _CropFlip(_CentreCrop):
    """Plain slicing with numbers drawn from the seed by arithmetic: some ten microseconds for a small image."""

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        channels, height, width = image.shape
        top = mixed(seed, 1) % (height + 2 * _PADDING - self.size + 1) - _PADDING
        left = mixed(seed, 2) % (width + 2 * _PADDING - self.size + 1) - _PADDING
        seen = image[:, max(top, 0) : top + self.size, max(left, 0) : left + self.size]
        if seen.shape[1:] != (self.size, self.size):
            down, right = max(-top, 0), max(-left, 0)
            canvas = image.new_zeros(channels, self.size, self.size)
            canvas[:, down : down + seen.shape[1], right : right + seen.shape[2]] = seen
            seen = canvas
        return seen.flip(-1) if mixed(seed, 0) % 2 else seen


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
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
        self.colours = v2.Compose([v2.ColorJitter(0.1, 0.1, 0.1), v2.TrivialAugmentWide()])

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        image = super().__call__(image, seed)
        with _drawing_from(seed):
            colours: Tensor = self.colours(image)
        return colours


class _ResizedCrop:
    def __init__(self, size: int) -> None:
        self.transform = v2.Compose([
            v2.RandomResizedCrop(size, scale=(0.35, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.2, 0.2, 0.2),
        ])  # fmt: skip

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        with _drawing_from(seed):
            transformed: Tensor = self.transform(image)
        return transformed
