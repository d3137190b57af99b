"""Toy birds drawn by code: fine-grained classes whose deciding parts are known to the pixel."""

from handful.birds.anatomy import Part, Variant
from handful.birds.classes import BirdClass, ClassTable, class_table
from handful.birds.dataset import ToyBirdsDataset, attribute_names, attribute_vector
from handful.birds.difficulty import DIFFICULTIES, Difficulty
from handful.birds.parts import PART_NAMES, PARTS
from handful.birds.render import Rendering, render
from handful.birds.scene import Scene, draw_scene

__all__ = [
    "DIFFICULTIES",
    "PARTS",
    "PART_NAMES",
    "BirdClass",
    "ClassTable",
    "Difficulty",
    "Part",
    "Rendering",
    "Scene",
    "ToyBirdsDataset",
    "Variant",
    "attribute_names",
    "attribute_vector",
    "class_table",
    "draw_scene",
    "render",
]
