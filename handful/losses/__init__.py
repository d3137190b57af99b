"""Losses that make features differ from one another, or belong to classes."""

from handful.losses.diversity import feature_diversity_loss
from handful.losses.grounding import feature_grounding_loss
from handful.losses.interpretable_filters import interpretable_filter_loss
from handful.losses.mutual_channel import MutualChannelLoss

__all__ = ["MutualChannelLoss", "feature_diversity_loss", "feature_grounding_loss", "interpretable_filter_loss"]
