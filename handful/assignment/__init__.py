"""Which few features, and exactly k of them for every class: the QPM problem and its solver.

Source: QPM (ICLR 2025). The authors solve its quadratic program with a commercial solver in hours; here the set of
features is searched directly, in seconds, and a bound states how far from the optimum it can be.
"""

from handful.assignment.bound import UpperBound, upper_bound
from handful.assignment.constants import (
    ClassSums,
    class_correlation,
    feature_similarity,
    qpm_problem,
    similarity_penalty,
    similarity_threshold,
)
from handful.assignment.estimator import BinaryAssignmentClassifier
from handful.assignment.exact import solve_exactly
from handful.assignment.locality import LocalitySums
from handful.assignment.problem import Assignment, AssignmentProblem, check_sizes
from handful.assignment.search import Search
from handful.assignment.solve import solve
from handful.assignment.threshold import clique_threshold

__all__ = [
    "Assignment",
    "AssignmentProblem",
    "BinaryAssignmentClassifier",
    "ClassSums",
    "LocalitySums",
    "Search",
    "UpperBound",
    "check_sizes",
    "class_correlation",
    "clique_threshold",
    "feature_similarity",
    "qpm_problem",
    "similarity_penalty",
    "similarity_threshold",
    "solve",
    "solve_exactly",
    "upper_bound",
]
