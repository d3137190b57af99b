"""Data modules: one file per data set, over one small base."""

from datamodules.base import HandfulDataModule
from datamodules.episodes import Episodes
from datamodules.image_folder import ImageFolder
from datamodules.toy_birds import ToyBirds

__all__ = ["Episodes", "HandfulDataModule", "ImageFolder", "ToyBirds"]
