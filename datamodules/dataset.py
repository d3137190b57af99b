"""The data set that loaders read: normalised images of a split, augmented or not."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.augmentation import Augmentation
from datamodules.images import Split
from datamodules.loaders import Refused, in_loader_process
from datamodules.samplers import EpochAndIndex, mixed
from handful.errors import UserError
from handful.images import centre_crop


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Item i is `(image, label)`: float32 `(3, size, size)`, normalised, and the label.

    Without augmentation the image is the middle of the picture. With it, an item is asked for by `(epoch, index)` and
    looks the same whenever that pair comes again; a plain index stands for epoch 0.

    Args:
        split: the images.
        size: side of the images in pixels.
        mean: of the three channels, for pixel values in [0, 1].
        std: of the three channels, likewise.
        augmentation: of training images; None for evaluation.
        seed: chooses the augmentations.
    """

    def __init__(
        self,
        split: Split,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.split = split
        self.size = size
        self.augmentation = augmentation
        self.seed = seed
        self._scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32).view(3, 1, 1)
        self._shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.split)

    @property
    def labels(self) -> Tensor:
        """Labels of all items, int64 `(N,)`."""
        return self.split.labels

    @property
    def names(self) -> Sequence[str]:
        """Names of all items: the files' paths inside the data set, where there are files."""
        return self.split.names

    def __getitem__(self, key: int | EpochAndIndex) -> tuple[Tensor, int]:
        return self._items([key])[0]

    def __getitems__(self, keys: Sequence[int | EpochAndIndex]) -> list[tuple[Tensor, int]] | Refused:
        """Return several items at once, as loaders ask for them.

        In a loader process, an image that cannot be read is returned as a refusal: an exception would reach the user
        as that process's traceback.
        """
        if not in_loader_process():
            return self._items(keys)
        try:
            return self._items(keys)
        except UserError as error:
            return Refused(str(error))

    def _items(self, keys: Sequence[int | EpochAndIndex]) -> list[tuple[Tensor, int]]:
        pairs = [key if isinstance(key, tuple) else (0, int(key)) for key in keys]
        images = self.normalised(torch.stack([self._pixels(epoch, index) for epoch, index in pairs]))
        labels = self.split.labels[[index for _, index in pairs]].tolist()
        return list(zip(images, labels, strict=True))

    def _pixels(self, epoch: int, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        image = self.split.pixels(index)
        if self.augmentation is None:
            return centre_crop(image, self.size)
        return self.augmentation(image, mixed(self.seed, epoch, index))

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return pixels, uint8 `(…, 3, H, W)`, as float32 by mean and deviation."""
        return pixels.to(torch.float32).mul_(self._scale).add_(self._shift)
