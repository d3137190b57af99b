"""The passes over the images that measures share."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from datamodules.images import batches
from handful.attribution.state import undisturbed
from handful.features import FeatureStore
from handful.progress import ProgressBar
from lightning_modules import ClassifierModule, TrainedModule
from pipelines.measures.registry import Measure, Measured
from pipelines.measures.subject import AnnotatedImages, Observed, Subject
from pipelines.stored_features import FeaturesUnwritableError, FrozenFeatures


def measured(module: TrainedModule, subject: Subject, chosen: Sequence[type[Measure]]) -> dict[str, Measured]:
    """Measure a stage: the measures that are fed share the passes, the others follow one by one.

    Args:
        module: that holds the classifier.
        subject: the classifier and the images.
        chosen: the measures; what they need is there.
    """
    found = {cls.name: cls(subject) for cls in chosen}
    with undisturbed(subject.model), torch.no_grad():
        for number in range(max((measure.passes for measure in found.values()), default=0)):
            fed = [measure for measure in found.values() if number < measure.passes]
            for measure in fed:
                measure.begin(number)
            wants_maps = any(measure.needs_maps for measure in fed)
            for observed in _observed(module, subject, wants_maps, f"{subject.stage}: pass {number + 1}"):
                for measure in fed:
                    measure.update(observed)
    return {name: measure.compute() for name, measure in found.items()}


def _observed(module: TrainedModule, subject: Subject, wants_maps: bool, title: str) -> Iterator[Observed]:
    """The images in batches, as the network sees them."""
    model, images = subject.model, subject.images
    chunks = [
        [images.indices[place] for place in places]
        for places in batches(len(images.indices), images.data.eval_batch_size)
    ]
    with ProgressBar(len(images.indices), title) as bar:
        for chunk, maps, features in _maps_and_features(module, subject, chunks, wants_maps):
            yield Observed(
                subject, chunk, images.dataset.labels[chunk].to(features.device), maps, features, model.head(features)
            )
            bar.update(len(chunk))


def _maps_and_features(
    module: TrainedModule, subject: Subject, chunks: Sequence[list[int]], wants_maps: bool
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Maps `(B, F, h, w)` and pooled features `(B, F)` of batches: kept ones where the backbone is frozen."""
    model, images = subject.model, subject.images
    device = next(model.parameters()).device
    store = _store(module, images, wants_maps)
    if store is not None:
        for chunk in chunks:
            assert isinstance(module, ClassifierModule)
            kept = None if store.maps is None else store.maps[chunk].to(device)
            maps, features = module.of_stored(store.features[chunk].to(device), kept)
            yield chunk, maps, features
        return
    for chunk, (batch, _) in zip(chunks, images.data.chunk_loader(images.dataset, chunks), strict=True):
        maps = model.feature_maps(batch.to(device)).float()
        yield chunk, maps, model.pool(maps)


def _store(module: TrainedModule, images: AnnotatedImages, wants_maps: bool) -> FeatureStore | None:
    """What is kept of a frozen backbone; None where nothing can be."""
    if not isinstance(module, ClassifierModule) or module.train_backbone:
        return None
    frozen = FrozenFeatures(module, images.data)
    split = images.options.split
    if (wants_maps or module.has_adapter) and not frozen.keeps_maps(split):
        return None
    try:
        return frozen.store(split, wants_maps)
    except FeaturesUnwritableError:
        return None
