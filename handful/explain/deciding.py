"""What decides in a classifier as a whole: which features, for which classes, and how well each class is recognised."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from handful.annotations import PixelAnnotations
from handful.attribution.state import model_device
from handful.explain.meaning import lies_on
from handful.images import Inputs
from handful.networks import Classifier, Head
from handful.report.cards import ClassRow, FeatureCard
from handful.report.overlays import overlay, picture

#: Side of the pictures in pixels.
SIDE = 128


class NormalisedImages(Protocol):
    """Images by dataset index: `(image, label)`, the image `(3, H, W)` normalised."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...


class DecidingFeatures:
    """What decides in a classifier, measured on labelled images.

    Args:
        model: a classifier in evaluation mode.
        features: pooled features `(N, F)` of the images, on the CPU.
        labels: `(N,)`.
        class_names: C names.

    Attributes:
        names: of the classes.
        used: the features with a weight in any class, those of most classes first.
        weights: `(C, S)` of the features `used`, as the checkpoint holds them: on standardised features where the head
            standardises, so that a weight is what one standard deviation more adds to the class's logit.
        standardised: whether the head standardises.
        predicted: `(N,)`, the predicted classes.
        probability: `(N,)`, of the predicted classes.

    Example:
        >>> from handful.networks import build_classifier
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
        >>> deciding = DecidingFeatures(model, torch.rand(6, 4), torch.arange(6) % 2, ["owl", "wren"])
        >>> deciding.weights.shape, len(deciding.strongest_images(2)[0])
        (torch.Size([2, 4]), 2)
    """

    def __init__(self, model: Classifier, features: Tensor, labels: Tensor, class_names: Sequence[str]) -> None:
        self.model, self.features, self.labels = model, features, labels
        self.names = list(class_names)
        with torch.no_grad():
            chances = model.head(features.to(model_device(model))).double().softmax(dim=1).cpu()
        self.probability, self.predicted = (part for part in chances.max(dim=1))
        pairs = labels * len(self.names) + self.predicted
        self._confusion = torch.bincount(pairs, minlength=len(self.names) ** 2).reshape(len(self.names), -1)
        own, self.standardised = stored_weights(model.head)
        count = (own != 0).sum(dim=0)
        self.used: list[int] = [f for f in count.argsort(descending=True, stable=True).tolist() if count[f]]
        self.weights: Tensor = own[:, self.used]

    def strongest_images(self, count: int) -> dict[int, list[int]]:
        """Feature → dataset indices of the images where it is largest, at most `count`."""
        return {f: self.features[:, f].argsort(descending=True, stable=True)[:count].tolist() for f in self.used}

    def weights_of(self, feature: int) -> dict[str, float]:
        """Class name → weight, of the classes that weigh a feature."""
        column = self.weights[:, self.used.index(feature)]
        return {self.names[c]: float(column[c]) for c in column.nonzero()[:, 0].tolist()}

    def weights_in(self, label: int) -> dict[int, float]:
        """Feature → weight, of the features that a class weighs, the strongest first."""
        row = self.weights[label]
        order = row.abs().argsort(descending=True, stable=True).tolist()
        return {self.used[column]: float(row[column]) for column in order if row[column]}

    def confusion(self) -> Tensor:
        """Counts `(C, C)`, int64: images of each class by predicted class."""
        return self._confusion

    def mistakes(self, most: int) -> list[tuple[int, int, int]]:
        """True class, predicted class and number of images of the mistakes made most often, at most `most` pairs."""
        wrong = self.confusion().clone().fill_diagonal_(0)
        order = wrong.flatten().argsort(descending=True, stable=True)[:most].tolist()
        found = [(*divmod(place, len(wrong)), int(wrong.flatten()[place])) for place in order]
        return [pair for pair in found if pair[2]]

    def classes(self) -> list[ClassRow]:
        """Every class: how well it is recognised, what decides it, what it is mistaken for."""
        return [self._class(label, counts) for label, counts in enumerate(self.confusion().double())]

    def _class(self, label: int, counts: Tensor) -> ClassRow:
        images, right = int(counts.sum()), float(counts[label])
        counts = counts.clone()
        counts[label] = 0
        other = int(counts.argmax())
        share = 100 / max(1, images)
        return ClassRow(
            self.names[label],
            images,
            share * right,
            self.weights_in(label),
            (self.names[other], share * float(counts[other])) if counts[other] else None,
        )

    def cards(
        self, images: NormalisedImages, inputs: Inputs, count: int, parts: PixelAnnotations | None = None
    ) -> list[FeatureCard]:
        """Every feature, with the images where it is largest.

        Args:
            images: those that the features are of.
            inputs: their normalisation.
            count: pictures per feature, at most.
            parts: masks of parts in the same images, where they are known.
        """
        chosen = self.strongest_images(count)
        return [self._card(feature, chosen[feature], images, inputs, parts) for feature in self.used]

    @torch.no_grad()
    def _card(
        self,
        feature: int,
        indices: Sequence[int],
        images: NormalisedImages,
        inputs: Inputs,
        parts: PixelAnnotations | None,
    ) -> FeatureCard:
        batch = torch.stack([images[index][0] for index in indices])
        maps = self.model.feature_maps(batch.to(model_device(self.model)))[:, feature].cpu()
        card = FeatureCard(feature, self.weights_of(feature))
        for image, one, index in zip(inputs.denormalise(batch), maps, indices, strict=True):
            label = self.names[int(self.labels[index])]
            card.pictures.append((picture(image, SIDE), overlay(image, one, side=SIDE), label))
        if parts is not None:
            kinds = [place for place, concept in enumerate(parts.concepts) if concept.kind == "part"]
            names = [parts.concepts[place].name for place in kinds]
            card.lies_on = lies_on(maps, parts.masks(indices)[:, kinds], names) if kinds else None
        return card


def stored_weights(head: Head) -> tuple[Tensor, bool]:
    """The weights `(C, F)` as a head's checkpoint holds them, and whether they are on standardised features.

    Args:
        head: of any kind; one that standardises gives its weights with `deciding_maps`.
    """
    with torch.no_grad():
        raw = head.class_weights()[0].detach().cpu()
        numbers = torch.arange(head.num_features, device=head.class_weights()[0].device, dtype=torch.float32)
        selected, own = head.deciding_maps(numbers[None, :, None, None])
    full = torch.zeros_like(raw)
    full[:, selected.flatten().long().cpu()] = own.detach().cpu().to(full)
    return full, not torch.equal(full, raw)
