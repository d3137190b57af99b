"""The InfoMax / information-bottleneck plug-in, and IBA on the same parts."""

from handful.networks.plugin.infomax_bottleneck import MAP_NAMES, InfoMaxBottleneck
from handful.networks.plugin.informed import InformedClassifier
from handful.networks.plugin.noise_bottleneck import NoiseBottleneck, Terms, Weights
from handful.networks.plugin.per_sample import per_sample_maps

__all__ = [
    "MAP_NAMES",
    "InfoMaxBottleneck",
    "InformedClassifier",
    "NoiseBottleneck",
    "Terms",
    "Weights",
    "per_sample_maps",
]
