"""The sections of a run's report, in the order of the page.

A section is one template, `handful/report/templates/sections/KEY.html`, and one function that gives its values from a
`Content`, or None where the run has nothing to say here. Adding one: write both, and list it below. The template is
filled with these values as `section`, and sees the macros of `macros.html`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from handful.report.content import Content
from handful.report.sections import (
    class_filters,
    class_pairs,
    classes,
    configuration,
    confusion,
    curves,
    decisions,
    features,
    hierarchy,
    information,
    measures,
    pairs,
    probe,
    sets,
    stages,
    trade_off,
    weights,
)


@dataclass(frozen=True)
class Section:
    """One part of the report.

    Attributes:
        key: name of its template, and its anchor on the page.
        heading: above it, and in the list of contents.
        build: gives the values of the template; None leaves the section out.
    """

    key: str
    heading: str
    build: Callable[[Content], Mapping[str, Any] | None]


SECTIONS = (
    Section("stages", "Stages", stages.build),
    Section("weights", "Weights", weights.build),
    Section("features", "Features", features.build),
    Section("classes", "Classes", classes.build),
    Section("pairs", "Classes alike", pairs.build),
    Section("decisions", "Single decisions", decisions.build),
    Section("confusion", "Confusion", confusion.build),
    Section("class-filters", "Class filters", class_filters.build),
    Section("information", "Information in bits", information.build),
    Section("trade-off", "Trade-off", trade_off.build),
    Section("hierarchy", "Step by step", hierarchy.build),
    Section("class-pairs", "Classes that differ in one feature", class_pairs.build),
    Section("sets", "Sets of classes with a guarantee", sets.build),
    Section("training", "Training", curves.training),
    Section("regularisation-path", "Regularisation path", curves.regularisation_path),
    Section("measures", "Measures", measures.build),
    Section("probe", "Bias probe", probe.build),
    Section("configuration", "Configuration", configuration.build),
)
