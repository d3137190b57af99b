"""Reading photographs: one way from a file to RGB pixels, for training, explaining and predicting alike."""

from handful.images.colour import BACKGROUND
from handful.images.find import find_images
from handful.images.formats import IMAGE_SUFFIXES, is_image_name, looks_like_image
from handful.images.masks import open_mask
from handful.images.model_inputs import Inputs, centre_crop
from handful.images.pictures import PictureBatch, Pictures
from handful.images.placement import Box, Fit, Placement
from handful.images.reading import MAX_PIXELS, open_image, read_image, resize, upright_rgb

__all__ = [
    "BACKGROUND",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Box",
    "Fit",
    "Inputs",
    "PictureBatch",
    "Pictures",
    "Placement",
    "centre_crop",
    "find_images",
    "is_image_name",
    "looks_like_image",
    "open_image",
    "open_mask",
    "read_image",
    "resize",
    "upright_rgb",
]
