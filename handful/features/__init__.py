"""Features of a frozen backbone, computed once and kept on disk: pooled in float32, maps in half precision."""

from handful.features.key import features_key
from handful.features.parts import CHUNK, FeatureParts, chunks
from handful.features.store import DamagedFeaturesError, FeatureBatch, FeatureStore

__all__ = ["CHUNK", "DamagedFeaturesError", "FeatureBatch", "FeatureParts", "FeatureStore", "chunks", "features_key"]
