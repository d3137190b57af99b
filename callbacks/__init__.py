"""Callbacks that look into a model after every epoch, on any number of processes."""

from callbacks.attribution_maps import AttributionMaps
from callbacks.class_filters import ClassFilters
from callbacks.diversity import Diversity
from callbacks.epoch_seed import EpochSeed
from callbacks.keep_checkpoints import KeepCheckpoints

__all__ = ["AttributionMaps", "ClassFilters", "Diversity", "EpochSeed", "KeepCheckpoints"]
