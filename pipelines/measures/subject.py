"""What is measured: the classifier of a stage, the images, and what is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from datamodules.base import HandfulDataModule
from datamodules.toy_birds import ToyBirds
from handful.annotations import (
    Annotations,
    AttributeTable,
    BirdAnnotations,
    MaskFolder,
    ObjectMasks,
    PartPositions,
    PixelAnnotations,
    read_class_attributes,
)
from handful.attribution import attribute
from handful.birds import ToyBirdsDataset
from handful.metrics.diversity import StrongestMaps, strongest_maps
from handful.networks import Classifier


@dataclass(frozen=True)
class Options:
    """What the options of `evaluate` say to measures.

    Attributes:
        split: of the images: "train", "val" or "test".
        images: at most so many, spread evenly over the split; None for all.
        attributes: a file of class attributes; see `handful.annotations.read_class_attributes`.
        masks: a folder of masks; see `handful.annotations.MaskFolder`.
        seed: of what draws random numbers.
        methods: of attribution, whose maps are measured.
    """

    split: str = "test"
    images: int | None = None
    attributes: str | None = None
    masks: str | None = None
    seed: int = 0
    methods: tuple[str, ...] = ("gradcam",)


#: Annotation → how to give it.
HOW_TO_GIVE = {
    "attributes": "--attributes FILE gives those of the classes",
    "masks": "--masks FOLDER gives them",
    "segmentation": "--masks FOLDER gives them",
    "positions": "the toy birds, CUB-200-2011 and NABirds have them",
    "birds": "the toy birds have them",
}

#: Annotation → what it is called in a sentence.
CALLED = {
    "attributes": "attributes",
    "masks": "masks of concepts",
    "segmentation": "masks of the object",
    "positions": "positions of parts",
    "birds": "toy birds whose parts can be removed",
}


class AnnotatedImages:
    """The images of a split and their annotations, the same for all stages of a run.

    Args:
        data: the run's.
        options: of the command.
    """

    def __init__(self, data: HandfulDataModule, options: Options) -> None:
        self.data, self.options = data, options
        self.dataset = data.plain_dataset(options.split)
        count = len(self.dataset)
        wanted = count if options.images is None else min(options.images, count)
        #: dataset indices of the images that are looked at, in their order
        self.indices: list[int] = [i * count // wanted for i in range(wanted)] if wanted else []

    @property
    def labels(self) -> Tensor:
        """Of the images looked at, int64 `(N,)`."""
        return self.dataset.labels[self.indices]

    @cached_property
    def _own(self) -> Annotations:
        """What the data set knows itself."""
        return self.data.annotations(self.options.split)

    @cached_property
    def _birds(self) -> BirdAnnotations | None:
        return BirdAnnotations(self.data.birds[self.options.split]) if isinstance(self.data, ToyBirds) else None

    @property
    def birds(self) -> ToyBirdsDataset:
        """The toy birds of the split; only where there are any."""
        if not isinstance(self.data, ToyBirds):
            raise ValueError("the images are not toy birds")
        return self.data.birds[self.options.split]

    @cached_property
    def masks(self) -> PixelAnnotations | None:
        """Masks of concepts, by dataset index."""
        if self.options.masks is not None:
            return MaskFolder(self.options.masks, self.dataset.names, self.data.image_size, self.data.fit)
        return self._own.masks

    @cached_property
    def positions(self) -> PartPositions | None:
        """Positions of parts, by dataset index."""
        return self._own.parts

    @cached_property
    def segmentation(self) -> ObjectMasks | None:
        """Masks of the object, by dataset index."""
        return self.masks if isinstance(self.masks, MaskFolder) else self._own.segmentation

    @cached_property
    def image_attributes(self) -> AttributeTable | None:
        """Attributes of every image of the split, in their order; those of its class where no more is known."""
        if self.options.attributes is not None:
            table = read_class_attributes(self.options.attributes, self.data.class_names)
            return AttributeTable(table.names, table.present[self.dataset.labels])
        return None if self._own.attributes is None else self._own.attributes()

    @cached_property
    def class_attributes(self) -> AttributeTable | None:
        """Per class, the share of images that have each attribute."""
        if self.options.attributes is not None:
            return read_class_attributes(self.options.attributes, self.data.class_names)
        table = self.image_attributes
        return None if table is None else table.of_classes(self.dataset.labels, self.data.num_classes)

    def has(self, annotation: str) -> bool:
        """Whether the images have an annotation: "attributes", "masks", "segmentation", "positions" or "birds"."""
        found = {
            "attributes": self.image_attributes,
            "masks": self.masks,
            "segmentation": self.segmentation,
            "positions": self.positions,
            "birds": self._birds,
        }
        return found[annotation] is not None

    def pixels(self, indices: Sequence[int]) -> Tensor:
        """Normalised images `(B, 3, H, W)`."""
        return torch.stack([self.dataset[int(index)][0] for index in indices])


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        stage: its name.
        model: its classifier, in evaluation mode on the device to compute on.
        images: the images and what is known of them.
    """

    stage: str
    model: Classifier
    images: AnnotatedImages

    @property
    def options(self) -> Options:
        """Of the command."""
        return self.images.options

    @property
    def data(self) -> HandfulDataModule:
        """The run's data module."""
        return self.images.data

    @cached_property
    def used(self) -> Tensor:
        """Numbers of the backbone's features that the head looks at, int64 `(S,)`."""
        numbers = torch.arange(self.model.num_features, dtype=torch.float32, device=self.weight.device)
        return self.model.head.deciding_maps(numbers[None, :, None, None])[0].flatten().long().cpu()

    @cached_property
    def weight(self) -> Tensor:
        """The head's weights `(C, S)` for the features `used`."""
        first = next(self.model.parameters())
        nothing = torch.zeros(1, self.model.num_features, 1, 1, device=first.device)
        return self.model.head.deciding_maps(nothing)[1].detach()


@dataclass(frozen=True)
class Observed:
    """A batch of images as the network has seen them.

    Attributes:
        subject: what is measured.
        indices: dataset indices of the images, in increasing order.
        labels: int64 `(B,)`.
        all_maps: feature maps `(B, F, h, w)` of the whole backbone; `(B, F, 1, 1)` where nobody looks at maps.
        all_features: pooled `(B, F)`.
        logits: `(B, C)`.
    """

    subject: Subject
    indices: list[int]
    labels: Tensor
    all_maps: Tensor
    all_features: Tensor
    logits: Tensor

    @property
    def weight(self) -> Tensor:
        """The head's weights `(C, S)` for `maps` and `features`."""
        return self.subject.weight

    @cached_property
    def maps(self) -> Tensor:
        """The maps `(B, S, h, w)` that the head looks at."""
        return self.subject.model.head.deciding_maps(self.all_maps)[0]

    @cached_property
    def features(self) -> Tensor:
        """The pooled features `(B, S)` that the head looks at."""
        return self.subject.model.head.deciding_maps(self.all_features[:, :, None, None])[0][:, :, 0, 0]

    @cached_property
    def images(self) -> Tensor:
        """Normalised images `(B, 3, H, W)` on the model's device."""
        return self.subject.images.pixels(self.indices).to(self.logits.device)

    def strongest(self, k: int) -> StrongestMaps:
        """The k maps that decide most in each image; chosen once for all measures."""
        if k not in self._strongest:
            self._strongest[k] = strongest_maps(self.maps, self.logits, self.weight, k)
        return self._strongest[k]

    @cached_property
    def _strongest(self) -> dict[int, StrongestMaps]:
        return {}

    def attribution(self, method: str) -> Tensor:
        """Maps `(B, H, W)` of an attribution method for the predicted classes; made once for all measures."""
        if method not in self._attributions:
            found = attribute(self.subject.model, self.images, method=method, seed=self.subject.options.seed)
            self._attributions[method] = found.map()
        return self._attributions[method]

    @cached_property
    def _attributions(self) -> dict[str, Tensor]:
        return {}

    @cached_property
    def segmentation(self) -> Tensor:
        """Masks of the object, bool `(B, H, W)`."""
        known = self.subject.images.segmentation
        if known is None:
            raise ValueError("the images have no masks of the object")
        return known.segmentation(self.indices)
