"""The FunnyBirds protocol on toy birds: draw each part away, and compare with what a map says of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from handful.attribution import attribute
from handful.attribution.context import default_chunk
from handful.attribution.outputs import run_model
from handful.attribution.state import model_device, model_dtype, run_in_chunks, undisturbed, unwrap
from handful.birds.dataset import ToyBirdsDataset
from handful.errors import UserError
from handful.metrics.finite import as_finite
from handful.metrics.knockouts import class_variants, contrasting_classes, knock_out, sufficient_sets
from handful.metrics.known_truth import Answers, Importances, KnownTruth, mass_on

#: Makes maps `(N, G, H, W)` of images `(N, 3, H, W)` for classes `(N, G)`.
Explain = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class WatchedBirds:
    """Toy birds and what a model says of them without each part; the same for every explanation.

    Attributes:
        images: `(N, 3, S, S)`, as the model takes them.
        answers: of the model.
        part_masks: bool `(N, P, S, S)`.
        thing_masks: bool `(N, K, S, S)`; empty for things that an image does not have.
        sets: per class, the sufficient sets of parts.
        contrast: per class, two contrasting classes and the parts they share with it.
    """

    images: Tensor
    answers: Answers
    part_masks: Tensor
    thing_masks: Tensor
    sets: list[Tensor]
    contrast: tuple[Tensor, Tensor]

    @property
    def classes(self) -> Tensor:
        """The classes that are explained, int64 `(N, 4)`."""
        return self.answers.explained(self.contrast[0])

    def importances(self, maps: Tensor, dilation: int = 3) -> Importances:
        """How important maps `(N, 4, S, S)` of `classes` say parts and things are; see `mass_on`.

        Raises:
            UserError: maps of another shape, or that are not finite.
        """
        maps = as_finite(maps, (len(self.images), self.classes.shape[1], *self.images.shape[2:]), "maps")
        parts, things = (mass_on(maps, masks, dilation) for masks in (self.part_masks, self.thing_masks))
        return Importances(parts, things, maps.double().sum(dim=(2, 3)))


def watch_birds(
    model: nn.Module,
    birds: ToyBirdsDataset,
    indices: Sequence[int] | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
    chunk: int | None = None,
) -> WatchedBirds:
    """Run a model on toy birds without each set of parts and without each background thing.

    `2 ** 6` forward passes of each image and one for each thing seen behind the bird, however many explanations are
    scored afterwards.

    Args:
        model: images to logits.
        birds: the data set.
        indices: of the images; None takes all.
        prepare: makes the model's images of uint8 `(B, 3, S, S)`; None normalises as `model.inputs` says.
        chunk: images in a forward pass; None chooses by their size.

    Raises:
        UserError: neither `prepare` nor `model.inputs`; no images; other classes than the model's.
    """
    model = unwrap(model)
    prepare = prepare or _normalisation(model)
    rows: list[tuple[Tensor, ...]] = []
    chosen = range(len(birds)) if indices is None else indices
    if not len(chosen):
        raise UserError("there are no birds to watch")
    with undisturbed(model), torch.no_grad():
        for index in chosen:
            scene = birds.scene(index)
            drawn = knock_out(scene, birds.size)
            images = prepare(torch.cat([drawn.parts, drawn.things])).to(model_device(model), model_dtype(model))
            logits = _logits(model, images, chunk)
            split = len(drawn.parts)
            if logits.shape[1] != len(birds.classes):
                raise UserError(f"the model has {logits.shape[1]} classes, and the birds {len(birds.classes)}")
            rows.append((images[split - 1], logits[:split], logits[split:], drawn.part_masks, drawn.thing_masks))
    things = max(len(row[2]) for row in rows)
    device = rows[0][0].device
    there = torch.stack([torch.arange(things, device=device) < len(row[2]) for row in rows])
    labels = torch.tensor([birds.scene(index).label for index in chosen], device=device)
    variants = class_variants(birds.classes)
    return WatchedBirds(
        images=torch.stack([row[0] for row in rows]),
        answers=Answers(
            labels, torch.stack([row[1] for row in rows]), there, torch.stack([_padded(row[2], things) for row in rows])
        ),
        part_masks=torch.stack([row[3] for row in rows]).to(device),
        thing_masks=torch.stack([_padded(row[4], things) for row in rows]).to(device),
        sets=sufficient_sets(variants),
        contrast=contrasting_classes(variants),
    )


def _logits(model: nn.Module, images: Tensor, chunk: int | None) -> Tensor:
    parts: dict[int, Tensor] = {}

    def work(start: int, stop: int) -> None:
        parts[start] = run_model(model, images[start:stop]).values

    run_in_chunks(len(images), chunk or default_chunk(images), work)
    return torch.cat([parts[start] for start in sorted(parts)])


def _padded(rows: Tensor, count: int) -> Tensor:
    return torch.cat([rows, rows.new_zeros(count - len(rows), *rows.shape[1:])])


def _normalisation(model: nn.Module) -> Callable[[Tensor], Tensor]:
    inputs = getattr(model, "inputs", None)
    if inputs is None:
        raise UserError("the model does not know the normalisation of its images: give prepare")
    mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (inputs.mean, inputs.std))
    return lambda pixels: (pixels.float() / 255 - mean) / std


def funny_birds(
    model: nn.Module,
    watched: WatchedBirds,
    explain: str | Explain,
    dilation: int = 3,
    options: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Score an explanation by the FunnyBirds protocol; see `KnownTruth.compute` for the scores.

    One attribution of each image for four classes: its label, the predicted one, and two that share disjoint parts
    with it.

    Args:
        model: images to logits.
        watched: of `watch_birds`.
        explain: the name of a method, or a function of model, images `(N, 3, S, S)` and classes `(N, 4)` that gives
            maps `(N, 4, S, S)`.
        dilation: side in pixels, odd, of the square that masks of parts are grown by.
        options: of the method, by name.

    Raises:
        UserError: an unknown method or option; maps of another shape, or that are not finite.

    Example:
        >>> birds = ToyBirdsDataset("test", n_classes=4, images_per_class=1, size=16)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
        >>> watched = watch_birds(model, birds, range(2), lambda pixels: pixels.float() / 255)
        >>> 0 <= funny_birds(model, watched, "gradient")["distractibility"] <= 1
        True
    """
    if isinstance(explain, str):
        maps = attribute(model, watched.images, watched.classes, method=explain, **(options or {})).map()
    else:
        maps = explain(model, watched.images, watched.classes)
    metric = KnownTruth().to(watched.images.device)
    metric.update(watched.answers, watched.importances(maps, dilation), watched.sets, watched.contrast)
    return {name: float(value) for name, value in metric.compute().items()}
