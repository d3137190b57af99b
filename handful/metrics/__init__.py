"""Measures as torchmetrics: sums and counts, the same on one process and on many."""

from handful.metrics.alignment import AttributeAlignment, stands_for
from handful.metrics.balanced_accuracy import BalancedAccuracy
from handful.metrics.bias_probe import BiasProbe
from handful.metrics.class_independence import ClassIndependence
from handful.metrics.contrastiveness import Contrastiveness
from handful.metrics.correlation import FeatureCorrelation
from handful.metrics.dependence import Dependence
from handful.metrics.dissection import ActivationThresholds, NetworkDissection
from handful.metrics.diversity import DiversityAtK, ScaleInvariantDiversity
from handful.metrics.histogram import Histogram
from handful.metrics.location_instability import LocationInstability
from handful.metrics.means import Mean
from handful.metrics.plausibility import Plausibility
from handful.metrics.receptive_fields import ReceptiveField, receptive_field
from handful.metrics.structural_grounding import (
    StructuralGrounding,
    grounding_correlation,
    structural_grounding,
)

__all__ = [
    "ActivationThresholds",
    "AttributeAlignment",
    "BalancedAccuracy",
    "BiasProbe",
    "ClassIndependence",
    "Contrastiveness",
    "Dependence",
    "DiversityAtK",
    "FeatureCorrelation",
    "Histogram",
    "LocationInstability",
    "Mean",
    "NetworkDissection",
    "Plausibility",
    "ReceptiveField",
    "ScaleInvariantDiversity",
    "StructuralGrounding",
    "grounding_correlation",
    "receptive_field",
    "stands_for",
    "structural_grounding",
]
