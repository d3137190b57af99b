"""The tables of heads on one dense training: a row per run, the means of every head, the seconds of every phase."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Head of a config → its name in the tables, in their order.
HEADS = {"sldd": "SLDD", "qsenn": "Q-SENN", "qpm": "QPM", "chiqpm": "CHiQPM"}
#: Of rows, in their order.
NAMES = ("dense", *HEADS.values())
#: Further columns: heading → measure.
COLUMNS = {
    "class-independence": "class_independence",
    "contrastiveness": "contrastiveness",
    "alignment": "alignment",
    "structural grounding": "structural_grounding",
}
_DIGITS = (2, 2, 0, 2, 3, *(3,) * len(COLUMNS))
_NONE = "–"


@dataclass(frozen=True)
class Found:
    """A finished run.

    Attributes:
        stages: of `results.json`: stage → measure → value.
        measures: what `evaluate` has measured: stage → measure → value.
        seconds: by phase.
    """

    stages: Mapping[str, Mapping[str, Any]]
    measures: Mapping[str, Mapping[str, Any]]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """What the tables hold.

    Attributes:
        rows: seed and name → a value per column; None where there is none.
        seconds: seed and name → seconds by phase, in words.
    """

    rows: Mapping[tuple[int, str], Sequence[float | None]]
    seconds: Mapping[tuple[int, str], str]

    def over(self, before: "Table") -> "Table":
        """This table with the rows of an earlier one that it has not itself, by seed and name."""

        def ordered(rows: dict[tuple[int, str], Any]) -> dict[tuple[int, str], Any]:
            return dict(sorted(rows.items(), key=lambda one: (one[0][0], NAMES.index(one[0][1]))))

        return Table(ordered({**before.rows, **self.rows}), ordered({**before.seconds, **self.seconds}))


def table_of(found: Mapping[tuple[int, str], Found], k: int) -> Table:
    """The table of finished runs.

    Args:
        found: by seed and head (a key of `HEADS`); an SLDD run has a row of its dense stage, too.
        k: of SID@k.
    """
    rows: dict[tuple[int, str], Sequence[float | None]] = {}
    seconds = {}
    for (seed, head), run in found.items():
        stages = list(run.stages)
        before = next((stage for stage in stages if stage in ("sparse", "ternary", "binary")), None)
        if head == "sldd":
            rows[seed, "dense"] = _values(run, None, "dense", k)
        rows[seed, HEADS[head]] = _values(run, before, stages[-1], k)
        seconds[seed, HEADS[head]] = ", ".join(f"{phase} {spent:.0f}" for phase, spent in run.seconds.items())
    return Table(rows, seconds)


def table_in(text: str, k: int) -> Table:
    """The table that a section holds; empty where its columns are others.

    Args:
        text: Markdown, as `lines_of` writes it.
        k: of SID@k.
    """
    rows: dict[tuple[int, str], Sequence[float | None]] = {}
    seconds: dict[tuple[int, str], str] = {}
    lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines()]
    if _heading(k) not in lines:
        return Table(rows, seconds)
    for seed, *cells in lines:
        if not seed.isdigit() or cells[0] not in NAMES:
            continue
        if len(cells) == 2:
            seconds[int(seed), cells[0]] = cells[1]
        else:
            rows[int(seed), cells[0]] = [None if cell == _NONE else float(cell) for cell in cells[1:]]
    return Table(rows, seconds)


def lines_of(table: Table, k: int) -> list[str]:
    """A row per run with SID@k, the means of every head, and the seconds of every phase, as Markdown."""
    lines = [f"| {' | '.join(_heading(k))} |", "|" + "---|" * len(_heading(k))]
    of_seeds: dict[str, list[Sequence[float | None]]] = {}
    for (seed, name), cells in table.rows.items():
        of_seeds.setdefault(name, []).append(cells)
        lines.append(f"| {seed} | {name} | {' | '.join(_cell(*x) for x in zip(cells, _DIGITS, strict=True))} |")
    for name, found in of_seeds.items():
        if len(found) > 1:
            columns = zip(zip(*found, strict=True), _DIGITS, strict=True)
            lines.append(f"| mean | {name} | {' | '.join(_mean(values, digits) for values, digits in columns)} |")
    lines += ["", "| seed | head | seconds by phase |", "|---|---|---|"]
    return [*lines, *(f"| {seed} | {name} | {spent} |" for (seed, name), spent in table.seconds.items())]


def _heading(k: int) -> list[str]:
    return ["seed", "head", "before finetuning %", "finetuned %", "features", "per class", f"SID@{k}", *COLUMNS]


def _values(run: Found, before: str | None, after: str, k: int) -> list[float | None]:
    row, measured = run.stages.get(after, {}), run.measures.get(after, {})
    first = None if before is None else run.stages[before].get("accuracy")
    return [
        first, row.get("accuracy"), row.get("n_features"), row.get("features_per_class"),
        *(measured.get(measure) for measure in (f"sid@{k}", *COLUMNS.values())),
    ]  # fmt: skip


def _cell(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def _mean(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return _NONE
    return f"{statistics.fmean(known):.{digits}f} ± {statistics.stdev(known):.{digits}f}"
