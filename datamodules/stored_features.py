"""Stored features of a split in the place of its images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from datamodules.dataset import ImageDataset
from datamodules.samplers import EpochAndIndex
from handful.features import FeatureBatch, FeatureStore


class StoredFeatures(Dataset[FeatureBatch]):
    """Batches of stored features, asked for by index, or by `(epoch, index)` as in training.

    Args:
        store: of the features, in the order of the images.
        images: what they were computed from.
    """

    def __init__(self, store: FeatureStore, images: ImageDataset) -> None:
        if len(store) != len(images):
            raise ValueError(f"features of {len(store)} images, where there are {len(images)}")
        self.store = store
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int | EpochAndIndex) -> FeatureBatch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[int | EpochAndIndex]) -> FeatureBatch:
        """Return a batch at once: as a loader asks for it, whose `collate_fn` has nothing left to do."""
        indices = torch.tensor([key[1] if isinstance(key, tuple) else int(key) for key in keys])
        maps = None if self.store.maps is None else self.store.maps[indices]
        return FeatureBatch(self.store.features[indices], self.images.labels[indices], maps)


def as_it_is(batch: Any) -> Any:
    """Return a batch unchanged."""
    return batch
