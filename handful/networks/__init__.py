"""Networks behind one contract: images → feature maps → pooled features → logits."""

from handful.networks.auxiliary import AuxiliaryClassifier
from handful.networks.backbone import register_backbone
from handful.networks.build import NetworkConfig, build_classifier
from handful.networks.classifier import Classifier
from handful.networks.decomposed import DecomposedHead
from handful.networks.discrete_heads import BinaryHead, TernaryHead
from handful.networks.head import Head, build_head, register_head
from handful.networks.heads import DenseHead, SparseHead
from handful.networks.input_config import InputConfig, input_config, input_statistics
from handful.networks.layouts import Layout, register_layout
from handful.networks.weights import load_weights

__all__ = [
    "AuxiliaryClassifier",
    "BinaryHead",
    "Classifier",
    "DecomposedHead",
    "DenseHead",
    "Head",
    "InputConfig",
    "Layout",
    "NetworkConfig",
    "SparseHead",
    "TernaryHead",
    "build_classifier",
    "build_head",
    "input_config",
    "input_statistics",
    "load_weights",
    "register_backbone",
    "register_head",
    "register_layout",
]
