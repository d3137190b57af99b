"""The data of a Trainer: the one place where modules and callbacks look into its data module and loaders."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import lightning.pytorch as pl
import torch
from torch import Tensor

from handful.images.model_inputs import DescribedImages, Inputs


@runtime_checkable
class LabelledImages(Protocol):
    """A data set of images `(C, H, W)` with class numbers."""

    def __len__(self) -> int:
        """N."""
        ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        """Image and class number."""
        ...


class TrainerData:
    """The data of a Trainer; what a data module of another kind does not have is None.

    Args:
        trainer: with a data module or with loaders alone.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self._trainer = trainer
        self._module: object = getattr(trainer, "datamodule", None)

    @property
    def class_names(self) -> list[str] | None:
        """Names by class number."""
        names = getattr(self._module, "class_names", None)
        return list(names) if names else None

    @property
    def num_classes(self) -> int | None:
        """C."""
        classes = getattr(self._module, "num_classes", None)
        return None if classes is None else int(classes)

    @property
    def statistics(self) -> tuple[Sequence[float], Sequence[float]] | None:
        """Mean and standard deviation per channel, with which images are normalised."""
        mean, std = getattr(self._module, "mean", None), getattr(self._module, "std", None)
        return None if mean is None or std is None else (mean, std)

    @property
    def inputs(self) -> Inputs | None:
        """What images are given to the network as, where the data module says it."""
        return Inputs.of(self._module) if isinstance(self._module, DescribedImages) else None

    @property
    def training_labels(self) -> Tensor | None:
        """Class numbers `(N,)` of the training images."""
        return labels_of(_images(getattr(self._module, "train_dataset", None)))

    @property
    def lacks_validation(self) -> bool:
        """Whether the data module says that it has no validation images."""
        return self._module is not None and getattr(self._module, "val_dataset", self._module) is None

    @property
    def validates(self) -> bool:
        """Whether training has validation loops with images."""
        return not self.lacks_validation and bool(self._trainer.enable_validation)

    @property
    def watched(self) -> LabelledImages | None:
        """The images to look at in training: of validation, or else the un-augmented ones of training."""
        found = _images(getattr(self._module, "val_dataset", None))
        return _images(getattr(self._module, "plain_train_dataset", None)) if found is None else found


def names_of_classes(trainer: pl.Trainer, count: int) -> list[str]:
    """The classes' names, or their numbers where there are none."""
    return TrainerData(trainer).class_names or [str(c) for c in range(count)]


def loaded_images(loaders: object) -> LabelledImages | None:
    """The data set of the first loader of a Trainer's `val_dataloaders` and the like."""
    first = (loaders[0] if loaders else None) if isinstance(loaders, list | tuple) else loaders
    dataset = getattr(first, "dataset", None)
    return _images(getattr(dataset, "images", dataset))  # stored features know the images that they are of


def labels_of(images: LabelledImages | None) -> Tensor | None:
    """Class numbers `(N,)`, where the data set has them at hand."""
    labels = getattr(images, "labels", None)
    return None if labels is None else torch.as_tensor(labels)


def files_of(images: LabelledImages | None) -> Sequence[str] | None:
    """The names of the images, where the data set has them."""
    return getattr(images, "names", None)


def _images(found: object) -> LabelledImages | None:
    return found if isinstance(found, LabelledImages) else None
