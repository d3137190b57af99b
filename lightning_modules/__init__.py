"""LightningModules: what is trained, one file each."""

from lightning_modules.checkpoints import load_classifier, load_module, save_module
from lightning_modules.class_filters import Decompose, Retrain
from lightning_modules.classifier import ClassifierModule
from lightning_modules.dense import Dense
from lightning_modules.finetune import Finetune
from lightning_modules.infomax_bottleneck import InfoMaxPlugin
from lightning_modules.prototypical import Prototypical
from lightning_modules.schedules import WarmupCosine, WarmupThen
from lightning_modules.trained_module import Input, TrainedModule

__all__ = [
    "ClassifierModule",
    "Decompose",
    "Dense",
    "Finetune",
    "InfoMaxPlugin",
    "Input",
    "Prototypical",
    "Retrain",
    "TrainedModule",
    "WarmupCosine",
    "WarmupThen",
    "load_classifier",
    "load_module",
    "save_module",
]
