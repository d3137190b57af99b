"""Measures as torchmetrics: sums and counts, the same on one process and on many."""

from handful.metrics.alignment import AttributeAlignment, stands_for
from handful.metrics.balanced_accuracy import BalancedAccuracy
from handful.metrics.class_independence import ClassIndependence
from handful.metrics.contrastiveness import Contrastiveness
from handful.metrics.correlation import FeatureCorrelation
from handful.metrics.dependence import Dependence
from handful.metrics.diversity import DiversityAtK, ScaleInvariantDiversity
from handful.metrics.histogram import Histogram
from handful.metrics.means import Mean
from handful.metrics.plausibility import Plausibility
from handful.metrics.structural_grounding import StructuralGrounding, structural_grounding

__all__ = [
    "AttributeAlignment",
    "BalancedAccuracy",
    "ClassIndependence",
    "Contrastiveness",
    "Dependence",
    "DiversityAtK",
    "FeatureCorrelation",
    "Histogram",
    "Mean",
    "Plausibility",
    "ScaleInvariantDiversity",
    "StructuralGrounding",
    "stands_for",
    "structural_grounding",
]
