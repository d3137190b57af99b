"""What decides in a classifier as a whole: which features, for which classes, and how well each class is recognised."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from handful.attribution.state import model_device
from handful.images import Inputs
from handful.networks import Classifier
from handful.report.cards import ClassRow, FeatureCard
from handful.report.overlays import overlay, picture

#: Side of the pictures in pixels.
SIDE = 128


class Images(Protocol):
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
        effects: `(C, S)` of the features `used`: weight × standard deviation of the feature on these images, what
            one standard deviation more adds to the class's logit.
        predicted: `(N,)`, the predicted classes.

    Example:
        >>> from handful.networks import build_classifier
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
        >>> deciding = DecidingFeatures(model, torch.rand(6, 4), torch.arange(6) % 2, ["owl", "wren"])
        >>> deciding.effects.shape, len(deciding.strongest_images(2)[0])
        (torch.Size([2, 4]), 2)
    """

    def __init__(self, model: Classifier, features: Tensor, labels: Tensor, class_names: Sequence[str]) -> None:
        self.model, self.features, self.labels = model, features, labels
        self.names = list(class_names)
        weights = model.head.class_weights()[0].detach().cpu()
        with torch.no_grad():
            self.predicted: Tensor = model.head(features.to(model_device(model))).argmax(dim=1).cpu()
        count = (weights != 0).sum(dim=0)
        self.used: list[int] = [f for f in count.argsort(descending=True, stable=True).tolist() if count[f]]
        self.effects: Tensor = (weights * features.std(dim=0, unbiased=False))[:, self.used]
        self._weighs = weights[:, self.used] != 0

    def strongest_images(self, count: int) -> dict[int, list[int]]:
        """Feature → dataset indices of the images where it is largest, at most `count`."""
        return {f: self.features[:, f].argsort(descending=True, stable=True)[:count].tolist() for f in self.used}

    def effects_of(self, feature: int) -> dict[str, float]:
        """Class name → effect, of the classes that weigh a feature."""
        column = self.used.index(feature)
        return {
            self.names[c]: float(self.effects[c, column]) for c in self._weighs[:, column].nonzero()[:, 0].tolist()
        }

    def classes(self) -> list[ClassRow]:
        """Every class: how well it is recognised, what decides it, what it is mistaken for."""
        return [self._class(label) for label in range(len(self.names))]

    def _class(self, label: int) -> ClassRow:
        predicted = self.predicted[self.labels == label]
        counts = torch.bincount(predicted, minlength=len(self.names)).double()
        right = float(counts[label])
        counts[label] = 0
        other = int(counts.argmax())
        share = 100 / max(1, len(predicted))
        weighs = self._weighs[label].nonzero()[:, 0].tolist()
        return ClassRow(
            self.names[label],
            len(predicted),
            share * right,
            {self.used[column]: float(self.effects[label, column]) for column in weighs},
            (self.names[other], share * float(counts[other])) if counts[other] else None,
        )

    def cards(self, images: Images, inputs: Inputs, count: int) -> list[FeatureCard]:
        """Every feature, with the images where it is largest.

        Args:
            images: those that the features are of.
            inputs: their normalisation.
            count: pictures per feature, at most.
        """
        chosen = self.strongest_images(count)
        return [
            FeatureCard(feature, self.effects_of(feature), self._drawn(feature, chosen[feature], images, inputs))
            for feature in self.used
        ]

    @torch.no_grad()
    def _drawn(
        self, feature: int, chosen: Iterable[int], images: Images, inputs: Inputs
    ) -> list[tuple[Image.Image, Image.Image, str]]:
        indices = list(chosen)
        batch = torch.stack([images[index][0] for index in indices])
        maps = self.model.feature_maps(batch.to(model_device(self.model)))[:, feature].cpu()
        return [
            (picture(image, SIDE), overlay(image, one, side=SIDE), self.names[int(self.labels[index])])
            for image, one, index in zip(inputs.denormalise(batch), maps, indices, strict=True)
        ]
