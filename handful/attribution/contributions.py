"""The features that a class score is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from handful.attribution.images import as_images
from handful.attribution.methods.class_maps import class_weights, log_odds_weights
from handful.attribution.outputs import class_logits, readable_errors
from handful.attribution.state import model_device, model_dtype, undisturbed, unwrap
from handful.attribution.targets import Target, Targets
from handful.errors import UserError


@dataclass(frozen=True)
class Contributions:
    """Every feature's part in the explained class's logit and in its lead over the strongest other class.

    N images, F features, C classes; all on the images' device, computed in float64.

    Attributes:
        classes: int64 `(N,)`, the explained class, by default the predicted one.
        runner_up: int64 `(N,)`, the class with the highest logit among the others.
        logits: `(N, C)`, as the model gives them.
        features: `(N, F)`, pooled.
        weights, other_weights: `(N, F)`, of the explained class and of the runner-up, on the pooled features.
        bias, other_bias: `(N,)`, theirs.
        maps: `(N, F, h, w)`, the feature maps; their spatial mean is `features`.
        least: `(N, F)`, the value from which on a feature counts; minus infinity where every value does.

    Example:
        >>> from handful.attribution import contributions
        >>> from handful.networks import build_classifier
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 3).eval()
        >>> parts = contributions(model, torch.rand(2, 3, 32, 32))
        >>> logits = parts.logits.gather(1, parts.classes[:, None])[:, 0].double()
        >>> torch.allclose(parts.values.sum(dim=1) + parts.bias, logits, atol=1e-5)
        True
    """

    classes: Tensor
    runner_up: Tensor
    logits: Tensor
    features: Tensor
    weights: Tensor
    other_weights: Tensor
    bias: Tensor
    other_bias: Tensor
    maps: Tensor
    least: Tensor

    @property
    def values(self) -> Tensor:
        """`w·f (N, F)`; the sum over features plus `bias` is the explained class's logit."""
        return self.weights * self.features

    @property
    def lead(self) -> Tensor:
        """`(w − w')·f (N, F)`; the sum plus `bias − other_bias` is the logit's lead over the runner-up's."""
        return (self.weights - self.other_weights) * self.features

    @property
    def margin(self) -> Tensor:
        """The lead in all, `(N,)`: negative where the explained class is not the predicted one."""
        return self.lead.sum(dim=1) + self.bias - self.other_bias

    @property
    def tie_values(self) -> Tensor:
        """The value `(N, F)` each feature would need, alone, for a tie; NaN where it cannot bring one about.

        A feature cannot where both classes weigh it the same, where it would have to become negative though the
        feature maps never are, or less than what counts.
        """
        difference = self.weights - self.other_weights
        needed = self.features - self.margin[:, None] / difference
        impossible = (difference == 0) | (needed < self.least) | ((needed < 0) & bool((self.maps >= 0).all()))
        return torch.where(impossible, torch.full_like(needed, torch.nan), needed)

    def cpu(self) -> "Contributions":
        """The same on the CPU."""
        return Contributions(**{f.name: getattr(self, f.name).cpu() for f in fields(self)})

    @staticmethod
    def concat(parts: "Sequence[Contributions]") -> "Contributions":
        """One of all parts' images, in order."""
        return Contributions(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Contributions)})

    def strongest(self, image: int, limit: int | None = None) -> Tensor:
        """Features the explained class weighs, for one image: largest |w·f| first, at most `limit`."""
        order = self.values[image].abs().argsort(descending=True, stable=True)
        return order[self.weights[image, order] != 0][:limit]

    def strongest_lead(self, image: int, limit: int | None = None) -> Tensor:
        """Features that part the explained class from the runner-up, largest |(w − w')·f| first, at most `limit`."""
        order = self.lead[image].abs().argsort(descending=True, stable=True)
        return order[(self.weights != self.other_weights)[image, order]][:limit]

    def map_of(self, image: int, feature: int) -> Tensor:
        """`w·A (h, w)`: where the feature looked, in units of the logit; the spatial mean is its `w·f`."""
        return self.weights[image, feature] * self.maps[image, feature]

    def lead_map_of(self, image: int, feature: int) -> Tensor:
        """`(w − w')·A (h, w)`: where the feature spoke for the explained class and against the runner-up."""
        return (self.weights - self.other_weights)[image, feature] * self.maps[image, feature]


def contributions(
    model: nn.Module, images: Tensor, target: Target = "pred", labels: object = None, chunk: int = 64
) -> Contributions:
    """Take the logit of one class per image apart into its features.

    Of a model with one logit z, the log-odds of the class are taken apart (z for class 1, −z for class 0), and the
    runner-up has no weights.

    Args:
        model: a `Classifier`, also inside `DistributedDataParallel` or `torch.compile`; left as it was found.
        images: `(N, 3, H, W)`, normalised.
        target: one class per image, see `Targets`.
        labels: `(N,)`, for `target="label"`.
        chunk: images in a forward pass.

    Raises:
        UserError: the model does not classify pooled feature maps by one linear layer; several targets per image.

    Example:
        >>> import torch
        >>> from handful import NetworkConfig, build_classifier, contributions
        >>> model = build_classifier(NetworkConfig(backbone="cifar_resnet20"), num_classes=4).eval()
        >>> why = contributions(model, torch.rand(2, 3, 32, 32))
        >>> why.values.shape  # one number per image and feature
        torch.Size([2, 64])
        >>> logit = why.values.sum(dim=1) + why.bias
        >>> bool(torch.allclose(logit, why.logits.gather(1, why.classes[:, None])[:, 0], atol=1e-5))
        True
    """
    model = unwrap(model)
    with undisturbed(model), torch.no_grad():
        own_images = as_images(images, model_dtype(model), model_device(model))
        targets = Targets(target, len(own_images), labels)
        if targets.index is None or not targets.single:
            raise UserError("contributions explain one class per image")
        classifier, weights, bias = class_weights(model, "taking a logit apart")
        kept: list[tuple[Tensor, Tensor]] = []
        for batch in own_images.split(chunk):
            with readable_errors(model, batch):
                maps = classifier.feature_maps(batch)
            kept.append((maps, class_logits(classifier.head(classifier.pool(maps)), len(batch)).values))
        maps, logits = (torch.cat(parts).double() for parts in zip(*kept, strict=True))
        targets.resolve(logits, 0)
        classes = targets.index[:, 0].to(logits.device)
        runner_up = logits.scatter(1, classes[:, None], -torch.inf).argmax(dim=1)
        features = maps.mean(dim=(2, 3))
        if len(weights) == 1:  # one logit: the log-odds of the explained class, against nothing
            weights, bias = log_odds_weights(weights.double(), bias.double())
            own, own_bias = weights[classes], bias[classes]
            other, other_bias = torch.zeros_like(own), torch.zeros_like(own_bias)
        else:
            both, both_bias = classifier.head.weights_for(features, torch.stack([classes, runner_up], dim=1))
            (own, other), (own_bias, other_bias) = both.unbind(dim=1), both_bias.unbind(dim=1)
        least = classifier.head.least_active()
        return Contributions(
            classes=classes,
            runner_up=runner_up,
            logits=logits,
            features=features,
            weights=own,
            other_weights=other,
            bias=own_bias,
            other_bias=other_bias,
            maps=maps,
            least=(features.new_tensor(-torch.inf) if least is None else least.to(features)).expand_as(features),
        )
