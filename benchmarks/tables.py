"""The tables of "Take 5" with what our runs reached beside what is printed: `python -m benchmarks.tables [RUNS …]`.

Reads every `seeds.json` and `results.json` below the folders, and says which command fills a cell that is empty. No
number is written that no run has produced.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.arguments import argument_parser
from benchmarks.published_recipe import ROWS, row_of
from benchmarks.results import RESULTS, write_section
from handful.errors import UserError
from handful.record_files import read_json, read_text
from handful.text import safe_text

PUBLISHED = Path(__file__).parent.parent / "configs" / "sldd" / "published.csv"
_RUNS = Path("runs")
COLUMNS = ("dense", "sparse_all", "finetuned_all", "sparse", "finetuned")

_DATA = {"CUB200": "cub200", "FGVCAircraft": "fgvc_aircraft", "NABirds": "nabirds", "StanfordCars": "stanford_cars"}


@dataclass(frozen=True)
class Measured:
    """What a run, or the runs of several seeds, reached in one cell.

    Attributes:
        cell: data, backbone and row of the table.
        accuracy: by column, accuracies in % of every seed.
        folder: of the run.
    """

    cell: tuple[str, str, str]
    accuracy: Mapping[str, Sequence[float]]
    folder: Path


def published(path: Path = PUBLISHED) -> list[dict[str, str]]:
    """The rows of the file of printed numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cell_of(config: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """The cell of a run by its resolved config; None for other data, a part of a data set, or another recipe."""
    name = _DATA.get(str((config.get("data") or {}).get("class_path", "")).rpartition(".")[2])
    backbone = str((config.get("network") or {}).get("backbone", "")).split(".")[0]
    row = None if name is None else row_of(config, name, backbone)
    return None if name is None or row is None else (name, backbone, row)


def runs_below(folders: Sequence[Path]) -> Iterator[Measured]:
    """Yield what every run below the folders has measured; seeds of one command together."""
    groups: dict[Path, list[Path]] = {}
    for folder in folders:
        for file in sorted(folder.rglob("results.json")):
            run = file.parent
            groups.setdefault(run.parent if (run.parent / "seeds.json").is_file() else run, []).append(run)
    for group, runs in groups.items():
        cells, found = set(), {column: [] for column in COLUMNS}  # type: tuple[set[Any], dict[str, list[float]]]
        for run in runs:
            if not (run / "config.yaml").is_file():
                continue
            config, results = _read(run / "config.yaml"), _read(run / "results.json")
            cells.add(cell_of(config))
            for column in COLUMNS:
                value = ((results.get("stages") or {}).get(column) or {}).get("accuracy")
                if isinstance(value, int | float) and math.isfinite(value):
                    found[column].append(float(value))
        cell = cells.pop() if len(cells) == 1 else None
        if cell is not None:
            yield Measured(cell, found, group)


def _read(file: Path) -> dict[str, Any]:
    """Return the mapping in a run's file.

    Raises:
        UserError: it is damaged.
    """
    try:
        found = read_json(file) if file.suffix == ".json" else yaml.safe_load(read_text(file))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise UserError(f"{file} is not that of a run")
    return found


def table_lines(measured: Sequence[Measured], printed: Sequence[Mapping[str, str]]) -> list[str]:
    """Markdown: a row of printed accuracies, ours beneath it, and the command where we have none."""
    names = ["dense", "sparse, all", "finetuned, all", "sparse, 50", "finetuned, 50"]
    lines = [f"| table | data | backbone | row | whose | {' | '.join(names)} |", f"|{'---|' * 10}"]
    for row in printed:
        cell = (row["data"], row["backbone"], row["row"])
        head = f"| {row['table']} | {' | '.join(cell)} |"
        lines.append(f"{head} printed | {' | '.join(row[column] for column in COLUMNS)} |")
        own = [one for one in measured if one.cell == cell]
        lines += [_own_line(one, head) for one in own]
        if not own:
            lines.append(f"{head} ours | not run |  |  |  |  |")
    known = {(row["data"], row["backbone"], row["row"]) for row in printed}
    lines += [_own_line(one, f"| not printed | {' | '.join(one.cell)} |") for one in measured if one.cell not in known]
    ran = {one.cell for one in measured}
    missing = [row for row in printed if (row["data"], row["backbone"], row["row"]) not in ran]
    if missing:
        lines += ["", f"{len(missing)} of {len(printed)} rows were not run. Each has its command (with "
                  "`--config configs/trainer/quick_look.yaml` behind it, two steps of it):", ""]  # fmt: skip
        lines += [f"* `{command(*(row[key] for key in ('data', 'backbone', 'row')))}`" for row in missing]
    return lines


def command(data: str, backbone: str, row: str) -> str:
    """The command that runs a cell of the tables, three seeds of it."""
    configs = [f"{data}_{backbone}.yaml", *filter(None, [ROWS[row]])]
    files = (f"--config configs/sldd/{name}" for name in configs)
    return " ".join(["python train.py pipeline", *files, "--data.root FOLDER --seeds 0,1,2"])


def _own_line(one: Measured, head: str) -> str:
    seeds = max(map(len, one.accuracy.values()), default=0)
    values = [_mean(one.accuracy[column]) for column in COLUMNS]
    values = [
        f"{value} (of {len(one.accuracy[column])})" if value and len(one.accuracy[column]) < seeds else value
        for column, value in zip(COLUMNS, values, strict=True)
    ]
    return f"{head} ours, {seeds} seed{'s' if seeds != 1 else ''} | {' | '.join(values)} |"


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else None
    return f"{mean:.1f}" + ("" if spread is None else f" ± {spread:.1f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the section into RESULTS.md, or print it."""
    parser = argument_parser(__doc__)
    parser.add_argument("runs", nargs="*", type=Path, default=[_RUNS], help="folders of runs")
    parser.add_argument("--print", action="store_true", help="print the table and write nothing")
    given = parser.parse_args(arguments)
    for folder in given.runs:
        if not folder.is_dir() and folder != _RUNS:
            parser.error(f"there is no folder {safe_text(folder)}")
    try:
        lines = table_lines(list(runs_below(given.runs)), published())
    except UserError as error:
        parser.error(safe_text(error))
    if given.print:
        print("\n".join(lines))
        return
    write_section("The tables of \"Take 5\": `python -m benchmarks.tables`", lines, RESULTS)


if __name__ == "__main__":
    main()
