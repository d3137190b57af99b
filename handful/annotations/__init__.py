"""What is known of images beside their labels: attributes, masks of concepts, positions of parts, boxes."""

from handful.annotations.attributes import AttributeTable, read_class_attributes
from handful.annotations.birds import BirdAnnotations
from handful.annotations.known import Annotations, ObjectBoxes, ObjectMasks, PartPositions
from handful.annotations.mask_folder import MaskFolder
from handful.annotations.pixels import KINDS, Concept, PixelAnnotations

__all__ = [
    "KINDS",
    "Annotations",
    "AttributeTable",
    "BirdAnnotations",
    "Concept",
    "MaskFolder",
    "ObjectBoxes",
    "ObjectMasks",
    "PartPositions",
    "PixelAnnotations",
    "read_class_attributes",
]
