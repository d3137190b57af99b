"""Networks behind one contract: images → feature maps → pooled features → logits."""

from handful.networks.build import NetworkConfig, build_classifier, input_statistics
from handful.networks.classifier import Classifier
from handful.networks.heads import DenseHead, SparseHead
from handful.networks.weights import load_weights

__all__ = [
    "Classifier",
    "DenseHead",
    "NetworkConfig",
    "SparseHead",
    "build_classifier",
    "input_statistics",
    "load_weights",
]
