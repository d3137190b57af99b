"""Data modules: one file per data set, over one small base."""

from datamodules.base import HandfulDataModule
from datamodules.cifar import CIFAR10, CIFAR100
from datamodules.cub200 import CUB200
from datamodules.episodes import Episodes
from datamodules.fgvc_aircraft import FGVCAircraft
from datamodules.image_folder import ImageFolder
from datamodules.imagenet import ImageNet
from datamodules.imagenet_folder import ImageNetFolder
from datamodules.nabirds import NABirds
from datamodules.stanford_cars import StanfordCars
from datamodules.stl10 import STL10
from datamodules.tiny_imagenet import TinyImageNet
from datamodules.toy_birds import ToyBirds
from datamodules.traveling_birds import TravelingBirds

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "CUB200",
    "STL10",
    "Episodes",
    "FGVCAircraft",
    "HandfulDataModule",
    "ImageFolder",
    "ImageNet",
    "ImageNetFolder",
    "NABirds",
    "StanfordCars",
    "TinyImageNet",
    "ToyBirds",
    "TravelingBirds",
]
