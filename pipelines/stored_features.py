"""Features of a frozen backbone: computed once, over all processes, and kept in the cache of the data."""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from callbacks.ranks import gather_objects
from datamodules.base import HandfulDataModule
from datamodules.cache import CacheUnwritableError, cannot_read
from handful.attribution.state import undisturbed
from handful.errors import UserError
from handful.explain.gather import gather_features
from handful.features import DamagedFeaturesError, FeatureParts, FeatureStore, chunks, features_key
from handful.networks import Classifier
from handful.networks.adapter import without_adapter
from handful.networks.backbone import feature_maps
from handful.progress import ProgressBar
from handful.ranks import share
from lightning_modules import ClassifierModule, TrainedModule
from pipelines.ranks import on_rank_zero

T = TypeVar("T")

#: Maps that nobody insists on are kept up to so many bytes of a split, where they leave much of the disk free.
LIMIT = 2**33

_WORDS = {"train": "training", "val": "validation"}
#: What this process has said to have computed or found.
_named: set[str] = set()


class FeaturesUnwritableError(UserError):
    """The cache cannot be written, so that no features can be kept."""


class FrozenFeatures:
    """Features of the images of a data module, by a backbone that is not trained.

    Every process of a run calls the same methods in the same order. Each computes its share of the chunks, in
    evaluation mode and float32; the digits are those of one process. Chunks outlive a run that is killed, and what is
    kept is found again by any run with the same weights, code and images. An adapter is no part of the backbone: what
    it makes of the stored maps, `ClassifierModule.of_stored` says.

    Args:
        module: of which the backbone is frozen.
        data: the images, and the cache.
        trainer: of a phase, whose processes have been started; None computes in this process alone.
    """

    def __init__(self, module: ClassifierModule, data: HandfulDataModule, trainer: pl.Trainer | None = None) -> None:
        self.module, self.data, self._trainer = module, data, trainer
        self._rank, self._processes = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def store(self, split: str, maps: bool = False) -> FeatureStore:
        """Features of all images of a split, un-augmented and in their order, computed where they are not kept yet.

        Args:
            split: "train", "val" or "test".
            maps: whether maps are wanted beside the pooled features.

        Raises:
            UserError: on every process: an image that cannot be read, or a cache that cannot be written.
        """
        maps = maps or self.module.has_adapter
        key = self._key(split)
        # pooled features that are kept with maps are the same
        names = [f"maps-{key}"] if maps else [f"features-{key}", f"maps-{key}"]
        found = self._on_rank_zero(lambda: self._whole(names))
        if found is None:
            found = self._computed(names, split, maps)
        elif found not in _named:
            rank_zero_info(f"features of the {_WORDS.get(split, split)} images: taken from {self.data.cache.folder}")
        _named.add(found)
        return self._opened(found)

    def keeps_maps(self, split: str) -> bool:
        """Whether maps of a split are kept, or small enough for the disk to be kept where nobody insists on them."""
        needed = self._parts(split, True).bytes
        small = needed <= LIMIT and 4 * 2 * needed <= self.data.cache.free_bytes()
        return self._everyone(small or self.data.cache.find(f"maps-{self._key(split)}") is not None)[0]

    def _key(self, split: str) -> str:
        return features_key(self.module.model, self.module.network, self.data.images_key(split), self._device)

    def _computed(self, names: list[str], split: str, maps: bool) -> str:
        cache = self.data.cache
        clock = time.perf_counter()
        with contextlib.ExitStack() as stack:  # one process holds the lock for all of them
            entry = self._on_rank_zero(lambda: stack.enter_context(cache.gradually(names[0])), share_result=False)
            # another run may have finished while this one waited
            found = self._on_rank_zero(lambda: self._whole(names))
            if found is not None:
                return found
            parts = self._parts(split, maps)
            parts.folder = cache.parts_folder(names[0])

            def begin() -> list[int]:
                if entry is not None:
                    entry.begin()
                missing = parts.missing()
                self._check_space(parts, len(missing))
                return missing

            self._compute(parts, split, self._on_rank_zero(begin) or [])
            self._on_rank_zero(lambda: None if entry is None else str(entry.finish(parts.assemble)))
        rank_zero_info(
            f"features of the {parts.images:,} un-augmented {_WORDS.get(split, split)} images: computed in "
            f"{time.perf_counter() - clock:.0f} s, kept in {cache.folder}"
        )
        return names[0]

    def _compute(self, parts: FeatureParts, split: str, missing: list[int]) -> None:
        """Compute this process's share of the missing chunks.

        Raises:
            UserError: on every process, what one of them has met.
        """
        failure: UserError | None = None
        try:
            self._compute_chunks(parts, split, [missing[i] for i in share(len(missing), self._rank, self._processes)])
        except OSError as error:
            failure = cannot_read(error)
        except UserError as error:
            failure = error
        if (failed := next(filter(None, self._everyone(failure)), None)) is not None:
            raise failed

    def _compute_chunks(self, parts: FeatureParts, split: str, numbers: list[int]) -> None:
        model, device = self.module.model, self._device
        batches = [chunks(parts.images)[number] for number in numbers]
        loader = self.data.chunk_loader(self.data.plain_dataset(split), batches)
        before = next(model.parameters()).device
        total = sum(map(len, batches))
        whose = "this process's share of the" if self._processes > 1 else "the"
        title = f"features of {whose} {_WORDS.get(split, split)} images"
        try:
            bar = ProgressBar(total, title, show=self._rank == 0, report=False)
            with bar, undisturbed(model), torch.no_grad():
                model.to(device)
                for number, (images, _) in zip(numbers, loader, strict=True):
                    found = feature_maps(without_adapter(model.backbone), images.to(device))
                    try:
                        parts.write(number, model.pool(found), found)
                    except OSError as error:
                        raise self._unwritable(error) from None
                    bar.update(len(images))
        finally:
            model.to(before)

    def _parts(self, split: str, maps: bool) -> FeatureParts:
        """The chunks of a split, in the cache's folder until they get one of their own."""
        model, size = self.module.model, self.data.image_size
        with undisturbed(model), torch.no_grad():
            image = torch.zeros(1, 3, size, size, device=next(model.parameters()).device)
            features, height, width = feature_maps(without_adapter(model.backbone), image).shape[1:]
        count = len(self.data.plain_dataset(split))
        return FeatureParts(self.data.cache.folder, count, (features, height, width), maps)

    def _whole(self, names: list[str]) -> str | None:
        """The first entry that is there and undamaged."""
        for name in names:
            folder = self.data.cache.find(name)
            if folder is None:
                continue
            try:
                FeatureStore(folder).verify()
            except DamagedFeaturesError as error:
                rank_zero_warn(f"{error}: the stored features are ignored and recomputed")
                continue
            return name
        return None

    def _opened(self, name: str) -> FeatureStore:
        folder = self.data.cache.find(name)
        if not all(self._everyone(folder is not None)) or folder is None:
            raise UserError(
                "data.cache_dir: the processes of a run keep the features of a frozen backbone in one folder, and "
                f"{self.data.cache.folder} is not the same for all; choose one on a disk that they share"
            )
        return FeatureStore(folder)

    def _check_space(self, parts: FeatureParts, missing: int) -> None:
        needed = parts.bytes * (1 + missing / len(chunks(parts.images)))
        if needed > (free := self.data.cache.free_bytes()):
            what = "features and maps" if parts.maps else "features"
            raise UserError(
                f"data.cache_dir: {what} of {parts.images:,} images take {needed / 2**30:.1f} GiB while they are "
                f"computed, and the disk of {self.data.cache.folder} has {free / 2**30:.1f} GiB free; choose another "
                f"place{', or beta 0, which needs no maps' if parts.maps else ''}"
            )

    def _unwritable(self, error: OSError) -> FeaturesUnwritableError:
        return FeaturesUnwritableError(
            f"data.cache_dir: the features of a frozen backbone cannot be kept in {self.data.cache.folder} "
            f"({error.strerror or error}); choose another place, or make room: what is computed already stays"
        )

    @property
    def _device(self) -> torch.device:
        if self._trainer is not None:
            return self._trainer.strategy.root_device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def _everyone(self, value: T) -> list[T]:
        """The values of all processes."""
        return [value] if self._trainer is None else gather_objects(self._trainer, value)

    def _on_rank_zero(self, function: Callable[[], T], share_result: bool = True) -> T | None:
        """Run a function on rank zero while the others wait; its result on all of them, or on rank zero alone.

        Raises:
            UserError: on every process, what the function has met.
        """

        def said() -> T:
            try:
                return function()
            except CacheUnwritableError as error:
                raise self._unwritable(error.cause) from None
            except OSError as error:
                raise self._unwritable(error) from None

        return on_rank_zero(self._trainer, said, share_result)


def stored(
    module: ClassifierModule,
    data: HandfulDataModule,
    maps: Mapping[str, bool],
    trainer: pl.Trainer | None = None,
) -> dict[str, FeatureStore]:
    """Stores of several splits, for `HandfulDataModule.serving`.

    Args:
        module: of which the backbone is frozen.
        data: the images.
        maps: split → whether maps are needed.
        trainer: as in `FrozenFeatures`.
    """
    features = FrozenFeatures(module, data, trainer)
    return {split: features.store(split, needed) for split, needed in maps.items()}


def features_of(
    module: TrainedModule, model: Classifier, data: HandfulDataModule, split: str
) -> tuple[Tensor, Tensor]:
    """Features `(N, F)` and labels `(N,)` of a split's un-augmented images, by one process.

    Args:
        module: kept features are taken where its backbone is frozen, and kept where the cache can be written.
        model: of the module, on the device to compute on.
        data: the images.
        split: "train", "val" or "test".
    """
    dataset = data.plain_dataset(split)
    if isinstance(module, ClassifierModule) and not module.train_backbone:
        with contextlib.suppress(FeaturesUnwritableError):
            return pooled(module, FrozenFeatures(module, data).store(split)), dataset.labels
    return gather_features(model, data.evaluation_loader(dataset), _WORDS.get(split, split))


def pooled(module: ClassifierModule, store: FeatureStore) -> Tensor:
    """The model's features `(N, F)` of all images, from what is stored of its frozen backbone; on the CPU."""
    if not module.has_adapter:
        return store.features
    assert store.maps is not None
    device = next(module.model.parameters()).device
    parts = []
    with undisturbed(module.model), torch.no_grad():
        for chunk in chunks(len(store)):
            places = slice(chunk.start, chunk.stop)
            parts.append(module.of_stored(store.features[places].to(device), store.maps[places].to(device))[1].cpu())
    return torch.cat(parts)
