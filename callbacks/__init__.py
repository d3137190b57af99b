"""Callbacks that look into a model after every epoch, on any number of processes."""

from callbacks.attribution_maps import AttributionMaps
from callbacks.class_filters import ClassFilters
from callbacks.diversity import Diversity
from callbacks.epoch_seed import EpochSeed

__all__ = ["AttributionMaps", "ClassFilters", "Diversity", "EpochSeed"]
