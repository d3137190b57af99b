"""timm's training transforms, as an augmentation that depends on image and seed alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision.transforms.v2 import functional

from datamodules.augmentation import Augmentation, Sample, drawing_from, flipped
from handful.errors import UserError


class TimmAugmentation(Augmentation):
    """What `timm.data.create_transform` gives for training.

    A resized crop of 8 to 100 % of the area, flip, colour jitter by 0.4. The image stays uint8: it is normalised once,
    with all others.

    Args:
        size: side of the square in pixels.
        resampling: of the network's data config; None where no network is known yet.
    """

    def __init__(self, size: int, resampling: str | None) -> None:
        super().__init__(size)
        self._transform: Any = None
        if resampling is not None:
            self._transform = create_transform(
                (3, size, size), is_training=True, interpolation=resampling, normalize=False
            )

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        """See `Augmentation`."""
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        with _drawing_from(seed):
            transformed: Tensor = self._settled(picture)
        return transformed

    def together(self, sample: Sample, seed: int) -> Sample:
        """See `Augmentation`; timm's transforms, which take pictures alone, are asked what they have drawn."""
        crop, flip, *_ = self._settled.transforms
        image = self(sample["image"].as_subclass(Tensor), seed)
        rest = {name: value for name, value in sample.items() if name != "image"}
        with _drawing_from(seed):
            picture = functional.to_pil_image(sample["image"])
            top, left, height, width = crop.get_params(picture, crop.scale, crop.ratio)
            rest = {
                name: functional.resized_crop(value, top, left, height, width, [self.size, self.size])
                for name, value in rest.items()
            }
            if torch.rand(1) < flip.p:
                rest = flipped(rest)
        return {"image": image, **rest}

    @property
    def _settled(self) -> Any:
        if self._transform is None:
            raise UserError(
                "data.augmentation: 'timm' means the transforms of the pipeline's network, and here is none: run it in "
                "a pipeline, or choose another augmentation."
            )
        return self._transform


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Let timm, which draws from Python's generator too, draw from a seed; the generators' states stay."""
    state = random.getstate()
    try:
        random.seed(seed)
        with drawing_from(seed):
            yield
    finally:
        random.setstate(state)
