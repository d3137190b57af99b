"""Class-specific filters ("Decomposing the Deep", arXiv 2112.07719): which few features decide each class."""

from handful.filters.essentiality import EssentialityTest
from handful.filters.grid import AccuracyGrid
from handful.filters.measures import concentration, overlap, pairwise_information, union_size
from handful.filters.ranking import by_strength, top_features
from handful.filters.rules import RULES, Rule, score_features, select_filters
from handful.filters.statistics import FeatureStatistics, StatisticsCollector
from handful.filters.strongest_images import StrongestImages

__all__ = [
    "RULES",
    "AccuracyGrid",
    "EssentialityTest",
    "FeatureStatistics",
    "Rule",
    "StatisticsCollector",
    "StrongestImages",
    "by_strength",
    "concentration",
    "overlap",
    "pairwise_information",
    "score_features",
    "select_filters",
    "top_features",
    "union_size",
]
