"""The InfoMax / information-bottleneck plug-in, and IBA on the same parts."""

from handful.bottleneck.infomax_bottleneck import MAP_NAMES, InfoMaxBottleneck
from handful.bottleneck.informed import InformedClassifier
from handful.bottleneck.noise_bottleneck import NoiseBottleneck, Terms, Weights
from handful.bottleneck.per_sample import per_sample_maps

__all__ = [
    "MAP_NAMES",
    "InfoMaxBottleneck",
    "InformedClassifier",
    "NoiseBottleneck",
    "Terms",
    "Weights",
    "per_sample_maps",
]
