"""Sets of classes that hold the true one with a chosen probability, whatever the classifier (conformal prediction)."""

from handful.conformal.hierarchy import Hierarchy, class_paths, shared_steps
from handful.conformal.scores import adaptive_scores, threshold_scores
from handful.conformal.sets import ConformalSets, SetQuality, calibrate, set_quality, stratified_halves

__all__ = [
    "ConformalSets",
    "Hierarchy",
    "SetQuality",
    "adaptive_scores",
    "calibrate",
    "class_paths",
    "set_quality",
    "shared_steps",
    "stratified_halves",
    "threshold_scores",
]
