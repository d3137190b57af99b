"""The methods; importing this package registers them."""

from handful.attribution.methods import (
    class_maps,
    gradient,
    lime,
    lrp,
    mutual_information,
    occlusion,
    path,
    perturbation,
    relu_rules,
)

__all__ = [
    "class_maps",
    "gradient",
    "lime",
    "lrp",
    "mutual_information",
    "occlusion",
    "path",
    "perturbation",
    "relu_rules",
]
