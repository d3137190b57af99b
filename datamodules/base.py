"""What all data modules share: splits, normalisation, augmentation."""

import json
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_only

from datamodules.augmentation import AugmentationName, build_augmentation
from datamodules.augmented import Augmented, augmented_pixels, marks_on_image
from datamodules.cache import Cache
from datamodules.dataset import ImageDataset
from datamodules.file_tree import digest
from datamodules.images import Split, names_digest
from datamodules.module_loaders import ModuleLoaders
from datamodules.normalisation import Triple, channel_statistics, given_normalisation, is_normalisation
from datamodules.placed import PlacedAnnotations
from datamodules.samplers import mixed
from handful.annotations import Annotations
from handful.errors import UserError
from handful.images.model_inputs import LARGEST_IMAGE
from handful.look_alikes import look_alike_warning
from handful.networks import NetworkConfig, input_config
from handful.networks.input_config import publishers_framing

#: What was printed by this process about images that were read.
_reported: set[str] = set()


class HandfulDataModule(ModuleLoaders):
    """A data set in splits; subclasses say where the images come from.

    The loaders of validation and test give every image once over all ranks. The training loader's order and
    augmentation depend on (seed, epoch) alone, so an interrupted and resumed run meets the batches of an unbroken one.

    Args:
        image_size: side of the images in pixels.
        batch_size: images in a training batch, on each rank.
        eval_batch_size: images in a batch of evaluation; as `batch_size` if not given.
        num_workers: loader processes; 0 loads in the training process. By default as many as the cores that may be used
            have to spare, which are none on two; see `spare_processes`.
        normalisation: "compute" (mean and deviation of the training images), "imagenet", "backbone" (what the
            pretrained backbone was trained with: a pipeline sets it) or {"mean": [r, g, b], "std": [r, g, b]}.
        augmentation: of training images: "none", "flip", "crop_flip", "standard", "resized_crop", "timm"; see
            `build_augmentation`.
        seed: of the order, the augmentations and whatever else the data set draws.
        cache_dir: where decoded images are kept; by default `$XDG_CACHE_HOME/handful`, else `~/.cache/handful`.
    """

    def __init__(
        self,
        image_size: int = 64,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        num_workers: int | None = None,
        normalisation: Literal["compute", "imagenet", "backbone"] | dict[str, list[float]] = "compute",
        augmentation: AugmentationName = "crop_flip",
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("image_size", image_size),
            ("batch_size", batch_size),
            ("eval_batch_size", eval_batch_size or 1),
        ):
            if value < 1:
                raise UserError(f"data.{name} must be at least 1, not {value}.")
        if (num_workers or 0) < 0 or seed < 0:
            raise UserError("data.num_workers and data.seed must not be negative.")
        if image_size > LARGEST_IMAGE:
            raise UserError(f"data.image_size must be at most {LARGEST_IMAGE:,}, not {image_size:,}.")
        if seed >= 2**63:
            raise UserError(f"data.seed must be below 2^63, not {seed}.")
        self.image_size = image_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.num_workers = num_workers
        self.normalisation = normalisation
        self.augmentation: AugmentationName = augmentation
        self.seed = seed
        self.cache = Cache(cache_dir)
        self._augment = build_augmentation(augmentation, image_size)
        self._given = given_normalisation(normalisation)
        self._known: dict[str, Annotations] = {}

    #: Whether the seed decides which images there are or in which split they are, not their order alone.
    seed_draws_images: bool = True

    #: How pictures are brought into a square.
    fit: str = "crop"
    white: float | None = None

    # -- what a subclass provides ---------------------------------------------------------------------------------

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """Names of the classes, by label; cheap to ask for."""

    @abstractmethod
    def load_splits(self) -> dict[str, Split]:
        """Return the splits "train", "test" and, where there is one, "val"; refuses bad data with a `UserError`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a short text that changes whenever the training images do."""

    def images_key(self, split: str) -> str:
        """Return a text that changes with the images of a split as a network gets them, un-augmented."""
        images = self.splits[split]
        names = digest(*images.names)
        given = [self.fingerprint(), split, len(images), names, self.image_size, self.mean, self.std]
        return json.dumps([type(self).__qualname__, *given])

    def contents(self) -> str:
        """Return a short text by which a run recognises its images, also in another folder."""
        return self.fingerprint()

    def training_size(self) -> int:
        """About how many training images there are, without reading them where their names tell it."""
        return len(self.splits["train"])

    def annotations(self, split: str) -> Annotations:
        """Return what is known of the images of a split beside their labels; nothing by default."""
        return Annotations()

    #: One line about what was read and what was left out, printed once; set by `load_splits`.
    report: str = ""

    # -- splits ---------------------------------------------------------------------------------------------------

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The splits by name, read when first asked for; process 0 says what was read and which classes look alike."""
        splits = self.load_splits()
        if _said_first(self.report):
            print(self.report, flush=True)
        alike = look_alike_warning(self.class_names)
        if _said_first(alike):
            warnings.warn(alike, stacklevel=2)
        return splits

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def prepare_data(self) -> None:
        """Read and check the data set once, so that other processes find it in the cache."""
        _ = self.splits

    def setup(self, stage: str | None = None) -> None:
        """Open all splits and settle the normalisation, whatever the stage."""
        _ = self.splits, self._mean_and_std

    @property
    def val_dataset(self) -> ImageDataset | None:
        """Validation images, None where there is no validation split."""
        return self._dataset("val") if "val" in self.splits else None

    def _dataset(self, split: str, augmented: bool = False) -> ImageDataset:
        augment = self._augment if augmented else None
        return ImageDataset(self.splits[split], self.image_size, self.mean, self.std, augment, self.seed)

    def augmented(self, index: int, epoch: int = 0) -> Augmented:
        """Return a training image as the loader gives it in an epoch, with its parts, box and masks moved alike.

        Args:
            index: in the training split.
            epoch: from 0.

        Raises:
            UserError: this torchvision cannot move boxes unless they are cut.
        """
        if "train" not in self._known:
            self._known["train"] = self.annotations("train")
        known, dataset = self._known["train"], self.train_dataset
        image = dataset.split.pixels(index)
        placed = known.boxes or known.parts or known.segmentation
        if isinstance(placed, PlacedAnnotations):
            marks = placed.stored_marks(index)
        else:
            marks = marks_on_image(known, index, self.image_size, image)
        pixels, moved = augmented_pixels(self._augment, image, marks, mixed(self.seed, epoch, index))
        return Augmented(dataset.normalised(pixels), moved)

    def summary(self) -> dict[str, Any]:
        """Return what a results file says about the data: plain values."""
        return {
            "name": type(self).__name__,
            "fingerprint": self.fingerprint(),
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "image_size": self.image_size,
            "images": {name: len(split) for name, split in self.splits.items()},
            "test_images": names_digest(self.splits["test"]),
            "mean": list(self.mean),
            "std": list(self.std),
            "fit": self.fit,
            **({} if self.white is None else {"white": self.white}),
        }

    # -- normalisation --------------------------------------------------------------------------------------------

    @property
    def mean(self) -> Triple:
        """Mean of the channels that images are normalised with, for pixel values in [0, 1]."""
        return self._mean_and_std[0]

    @property
    def std(self) -> Triple:
        """Standard deviation of the channels that images are normalised with, for pixel values in [0, 1]."""
        return self._mean_and_std[1]

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Normalise with these from now on; data sets and loaders made before keep what they have."""
        self._given = given_normalisation({"mean": list(mean), "std": list(std)})

    def follow(self, network: NetworkConfig | Mapping[str, Any]) -> None:
        """Take from a network what is left to it: `normalisation: backbone`, `fit: timm` and `augmentation: timm`.

        Raises:
            UserError: nothing is published of how its images are resized.
        """
        if self.normalisation == "backbone":
            found = input_config(network)
            self.set_normalisation(found.mean, found.std)
        if self.augmentation == "timm":
            resampling = publishers_framing(input_config(network)).resampling
            self._augment = build_augmentation("timm", self.image_size, resampling)
        if self.fit == "timm":
            self.fit = str(publishers_framing(input_config(network)))

    @property
    def _mean_and_std(self) -> tuple[Triple, Triple]:
        if self._given is not None:
            return self._given
        if self.normalisation == "backbone":
            raise UserError(
                "data.normalisation: 'backbone' means that of the pipeline's network, and here is none: run it in a "
                "pipeline, or choose imagenet, compute or a mean and std."
            )
        return self._computed

    @cached_property
    def _computed(self) -> tuple[Triple, Triple]:
        key = f"statistics-{type(self).__name__}-{self.fingerprint()}-{self.image_size}"
        mean, std = self.cache.value(
            key, lambda: channel_statistics(self.splits["train"], self.image_size), is_normalisation
        )
        return tuple(mean), tuple(std)


def _said_first(sentence: str) -> bool:
    """Whether process 0 has not said this yet: phases and commands read the same images more than once."""
    if not sentence or sentence in _reported or getattr(rank_zero_only, "rank", 0) != 0:
        return False
    _reported.add(sentence)
    return True
