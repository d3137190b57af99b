"""A second classifier on a layer in the middle, by which the layers before it learn sooner; used in training alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from handful.conversions import check_real
from handful.errors import UserError, did_you_mean

_LAYER, _WEIGHT = "net.Mixed_6e", 0.4
_HIDDEN = 128


class AuxiliaryClassifier(nn.Module):
    """Inception's auxiliary classifier: 5 × 5 cells, 1 × 1 and 5 × 5 convolutions, one linear layer.

    Args:
        channels: of the layer's maps.
        num_classes: C.
        layer: name of the layer inside the backbone.
        weight: of its cross-entropy in the training loss.

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (CVPR 2016).

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        >>> second = AuxiliaryClassifier.on(net, 2, {"layer": "1"})
        >>> with second.watching(net):
        ...     _ = net(torch.rand(3, 3, 16, 16))
        ...     second.logits().shape
        torch.Size([3, 2])
    """

    def __init__(self, channels: int, num_classes: int, layer: str = _LAYER, weight: float = _WEIGHT) -> None:
        super().__init__()
        self.layer, self.weight = layer, weight
        self.first = nn.Sequential(
            nn.Conv2d(channels, _HIDDEN, 1, bias=False), nn.BatchNorm2d(_HIDDEN, eps=0.001), nn.ReLU(inplace=True)
        )
        self.second = nn.Sequential(
            nn.Conv2d(_HIDDEN, 768, 5, bias=False), nn.BatchNorm2d(768, eps=0.001), nn.ReLU(inplace=True)
        )
        self.linear = nn.Linear(768, num_classes)
        self._seen: Tensor | None = None

    @classmethod
    def on(cls, backbone: nn.Module, num_classes: int, options: Mapping[str, Any]) -> Self:
        """One for a layer of a backbone, whose channels are found by a small image.

        Raises:
            UserError: an unknown option or layer, or one that gives no maps.
        """
        unknown = [name for name in options if name not in ("layer", "weight")]
        if unknown:
            near = did_you_mean(unknown[0], ("layer", "weight"))
            raise UserError(f"auxiliary: no option {unknown[0]!r}; there are layer and weight{near}")
        layer = str(options.get("layer", _LAYER))
        weight = check_real("auxiliary.weight", options.get("weight", _WEIGHT), 0)
        names = [name for name, _ in backbone.named_modules() if name]
        if layer not in names:
            raise UserError(f"auxiliary.layer: the backbone has no layer {layer!r}{did_you_mean(layer, names)}")
        seen: list[Any] = []
        handle = backbone.get_submodule(layer).register_forward_hook(lambda _module, _given, maps: seen.append(maps))
        training = backbone.training
        try:
            with torch.no_grad():
                backbone.eval()(torch.zeros(1, int(getattr(backbone, "in_channels", 3)), 96, 96))
        finally:
            handle.remove()
            backbone.train(training)
        if not seen or not isinstance(seen[0], Tensor) or seen[0].ndim != 4:
            raise UserError(f"auxiliary.layer: {layer} gives no feature maps; choose another layer")
        return cls(seen[0].shape[1], num_classes, layer, weight)

    @contextmanager
    def watching(self, backbone: nn.Module) -> Iterator[None]:
        """Keep the layer's maps of a forward pass for `logits`."""

        def keep(_module: nn.Module, _given: Any, output: Tensor) -> None:
            self._seen = output

        handle = backbone.get_submodule(self.layer).register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()
            self._seen = None

    def logits(self) -> Tensor:
        """Logits `(B, C)` of the images that the backbone has just seen."""
        if self._seen is None:
            raise RuntimeError("the backbone has seen no images while it was watched")
        maps: Tensor = self.second(self.first(functional.adaptive_avg_pool2d(self._seen, 5)))
        scores: Tensor = self.linear(maps.mean(dim=(2, 3)))
        return scores
