"""The methods; importing this package registers them."""

from handful.attribution.methods import (
    averaged_gradients,
    class_maps,
    gradient,
    lime,
    lrp,
    mutual_information,
    occlusion,
    perturbation,
    relu_rules,
)

__all__ = [
    "averaged_gradients",
    "class_maps",
    "gradient",
    "lime",
    "lrp",
    "mutual_information",
    "occlusion",
    "perturbation",
    "relu_rules",
]
