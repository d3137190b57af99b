"""LightningModules: one file a phase or model."""

from lightning_modules.base import ClassifierModule, PhaseModule
from lightning_modules.checkpoints import load_module, save_module
from lightning_modules.class_filters import Decompose, FindFilters, Retrain
from lightning_modules.compare_maps import CompareMaps
from lightning_modules.dense import Dense
from lightning_modules.evaluate import Evaluate
from lightning_modules.finetune import Finetune
from lightning_modules.infomax_bottleneck import InfoMaxPlugin
from lightning_modules.prototypical import Prototypical
from lightning_modules.schedules import WarmupThen
from lightning_modules.sparsify import Sparsify

__all__ = [
    "ClassifierModule",
    "CompareMaps",
    "Decompose",
    "Dense",
    "Evaluate",
    "FindFilters",
    "Finetune",
    "InfoMaxPlugin",
    "PhaseModule",
    "Prototypical",
    "Retrain",
    "Sparsify",
    "WarmupThen",
    "load_module",
    "save_module",
]
