"""Phases: the steps of a pipeline as recipes, one file each."""

from pipelines.phases.assign import Assign
from pipelines.phases.base import Phase, Produced
from pipelines.phases.compare import CompareMaps
from pipelines.phases.context import Context
from pipelines.phases.evaluate import SLDD_STAGES, Evaluate
from pipelines.phases.find_filters import FindFilters
from pipelines.phases.sparsify import Sparsify
from pipelines.phases.train import Train

__all__ = [
    "SLDD_STAGES",
    "Assign",
    "CompareMaps",
    "Context",
    "Evaluate",
    "FindFilters",
    "Phase",
    "Produced",
    "Sparsify",
    "Train",
]
