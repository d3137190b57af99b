"""Measures as torchmetrics: sums and counts, the same on one process and on many."""

from handful.metrics.balanced_accuracy import BalancedAccuracy
from handful.metrics.dependence import Dependence
from handful.metrics.diversity import DiversityAtK
from handful.metrics.means import Mean

__all__ = ["BalancedAccuracy", "Dependence", "DiversityAtK", "Mean"]
