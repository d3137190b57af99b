"""A classifier together with the plug-in that looks into it."""

from __future__ import annotations

from torch import nn

from handful.bottleneck.noise_bottleneck import NoiseBottleneck
from handful.networks.classifier import Classifier
from handful.networks.head import Head


class InformedClassifier(Classifier):
    """The classifier a plug-in sits in, clean and unchanged, with the plug-in at hand.

    Every method that works on a `Classifier` works on it, and so do the plug-in's own maps.

    Args:
        plugin: whose `base` is a `Classifier`; registered once, so a checkpoint holds the classifier once.

    Example:
        >>> from handful.networks import build_classifier
        >>> base = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 3).eval()
        >>> layers = [name for name, module in base.named_modules() if isinstance(module, nn.MaxPool2d)]
        >>> plugin = NoiseBottleneck(base, local_layer=layers[1], readout_layers=layers[1:], image_size=32)
        >>> InformedClassifier(plugin).num_classes
        3
    """

    def __init__(self, plugin: NoiseBottleneck) -> None:
        nn.Module.__init__(self)
        self.plugin = plugin

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]
        """The classifier's backbone."""
        return self.plugin.base.backbone  # type: ignore[return-value]

    @property
    def head(self) -> Head:  # type: ignore[override]
        """The classifier's head."""
        return self.plugin.base.head  # type: ignore[return-value]
