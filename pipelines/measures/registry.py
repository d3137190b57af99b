"""The measures by name, and what one is."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from handful.errors import UserError, did_you_mean
from pipelines.measures.subject import Observed, Subject

#: Which values are better; neither where that cannot be said.
Better = Literal["higher", "lower", ""]

AnyMeasure = TypeVar("AnyMeasure", bound="type[Measure]")

#: The files that register measures.
_FILES = ("features", "attributes", "filters", "tree", "graph", "attributions")

_MEASURES: dict[str, "type[Measure]"] = {}


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        values: numbers for the table, by name; what is not defined is NaN.
        details: further plain values, for `measures.json` alone.
    """

    values: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)


class Measure(ABC):
    """One entry of `--measures`, for one stage of a run.

    Measures that are fed share one pass through the images: `update` meets every batch, `passes` times over, with
    `begin` before each pass. Those that run the network themselves set `passes` to 0 and work in `compute`.

    Args:
        subject: what is measured.
    """

    #: The registered name and group; set by `register_measure`.
    name: ClassVar[str] = ""
    group: ClassVar[str] = ""
    #: What it measures, in a few words, for the report.
    title: ClassVar[str] = ""
    better: ClassVar[Better] = ""
    #: Annotations without which nothing can be measured: names of `Subject.has`.
    needs: ClassVar[tuple[str, ...]] = ()
    #: Whether maps are looked at; pooled features alone can be had for less.
    needs_maps: ClassVar[bool] = False
    passes: ClassVar[int] = 1

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def begin(self, number: int) -> None:  # noqa: B027  most measures need one pass
        """Prepare for pass `number`, from 0."""

    def update(self, observed: Observed) -> None:  # noqa: B027  measures of no pass are not fed
        """Add a batch."""

    @abstractmethod
    def compute(self) -> Measured:
        """What was measured."""


def register_measure(name: str, group: str) -> Callable[[AnyMeasure], AnyMeasure]:
    """Register the decorated `Measure` under the name that `--measures` takes, and under that of its group.

    Raises:
        ValueError: another measure has this name already.
    """

    def decorate(cls: AnyMeasure) -> AnyMeasure:
        known = _MEASURES.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"a measure {name!r} is registered already")
        cls.name, cls.group = name, group
        _MEASURES[name] = cls
        return cls

    return decorate


def load_measures() -> None:
    """Import the files that register measures."""
    for file in _FILES:
        importlib.import_module(f"pipelines.measures.{file}")


def measures() -> dict[str, "type[Measure]"]:
    """All registered measures by name, in the order of their registration."""
    load_measures()
    return dict(_MEASURES)


def chosen_measures(given: str) -> list["type[Measure]"]:
    """The measures of names and groups with commas between; "all" for every one.

    Raises:
        UserError: a name that is neither; lists the known ones.
    """
    known = measures()
    groups = list(dict.fromkeys(cls.group for cls in known.values()))
    chosen: dict[str, type[Measure]] = {}
    for name in (part.strip() for part in given.split(",")):
        if name in known:
            chosen[name] = known[name]
        elif name in groups or name == "all":
            chosen |= {other: cls for other, cls in known.items() if name in (cls.group, "all")}
        else:
            near = did_you_mean(name, [*known, *groups])
            raise UserError(
                f"--measures: no measure {name!r}{near}; there are {', '.join(known)}, and the groups "
                f"{', '.join(groups)}, all"
            )
    return list(chosen.values())
