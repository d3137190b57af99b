"""The tables of "Take 5" with what our runs reached beside what is printed: `python -m benchmarks.tables [RUNS …]`.

Reads every `seeds.json` and `results.json` below the folders, and says which command fills a cell that is empty. No
number is written that no run has produced.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.arguments import argument_parser
from benchmarks.results import RESULTS, write_section

PUBLISHED = Path(__file__).parent.parent / "configs" / "sldd" / "published.csv"
RECIPE = PUBLISHED.with_name("recipe.yaml")
COLUMNS = ("dense", "sparse_all", "finetuned_all", "sparse", "finetuned")

_DATA = {"CUB200": "cub200", "FGVCAircraft": "fgvc_aircraft", "NABirds": "nabirds", "StanfordCars": "stanford_cars"}
_ROWS = {"L_div": "", "without L_div": " --config configs/sldd/without_l_div.yaml",
         "MCL": " --config configs/sldd/mcl.yaml"}  # fmt: skip


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
    data = config.get("data") or {}
    name = _DATA.get(str(data.get("class_path", "")).rpartition(".")[2])
    arguments = data.get("init_args") or {}
    if name is None or not arguments.get("complete", True) or arguments.get("crop_to_box", False):
        return None
    if name == "fgvc_aircraft" and (arguments.get("level", "variant"), arguments.get("train_on", "trainval")) != (
        "variant",
        "trainval",
    ):
        return None
    if not _follows_the_recipe(config):
        return None
    dense = ((config.get("phases") or {}).get("dense") or {}).get("module", {}).get("init_args") or {}
    row = "MCL" if dense.get("mutual_channel") is not None else "L_div" if dense.get("beta", 0.196) else "without L_div"
    backbone = str((config.get("network") or {}).get("backbone", "")).split(".")[0]
    return name, backbone, row


def _follows_the_recipe(config: Mapping[str, Any]) -> bool:
    """Whether what makes a task easier or a training shorter is the recipe's, where the config says it."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    given = (config.get("data") or {}).get("init_args") or {}
    wanted = recipe["data"]["init_args"]
    if any(given.get(key, wanted[key]) != wanted[key] for key in ("image_size", "val_fraction", "fit")):
        return False
    for name, phase in recipe["phases"].items():
        own = (config.get("phases") or {}).get(name) or {}
        if own.get("max_epochs", phase.get("max_epochs")) != phase.get("max_epochs"):
            return False
        if name.startswith("sparsify"):
            sizes = phase["module"]["init_args"]
            found = (own.get("module") or {}).get("init_args") or {}
            if any(found.get(key, size) != size for key, size in sizes.items()):
                return False
    return True


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
            config = run / "config.yaml"
            if not config.is_file():
                continue
            cells.add(cell_of(yaml.safe_load(config.read_text(encoding="utf-8"))))
            stages = json.loads((run / "results.json").read_text(encoding="utf-8")).get("stages", {})
            for column in COLUMNS:
                value = stages.get(column, {}).get("accuracy")
                if value is not None:
                    found[column].append(float(value))
        cell = cells.pop() if len(cells) == 1 else None
        if cell is not None:
            yield Measured(cell, found, group)


def table_lines(measured: Sequence[Measured], printed: Sequence[Mapping[str, str]]) -> list[str]:
    """Markdown: a row of printed accuracies, ours beneath it, and the command where we have none."""
    names = ["dense", "sparse, all", "finetuned, all", "sparse, 50", "finetuned, 50"]
    lines = [f"| table | data | backbone | row | whose | {' | '.join(names)} |", f"|{'---|' * 10}"]
    for row in printed:
        cell = (row["data"], row["backbone"], row["row"])
        head = f"| {row['table']} | {' | '.join(cell)} |"
        lines.append(f"{head} printed | {' | '.join(row[column] for column in COLUMNS)} |")
        own = [one for one in measured if one.cell == cell]
        for one in own:
            values = " | ".join(_mean(one.accuracy[column]) for column in COLUMNS)
            seeds = max(map(len, one.accuracy.values()), default=0)
            lines.append(f"{head} ours, {seeds} seed{'s' if seeds != 1 else ''} | {values} |")
        if not own:
            lines.append(f"{head} ours | not run |  |  |  |  |")
    ran = {one.cell for one in measured}
    missing = [row for row in printed if (row["data"], row["backbone"], row["row"]) not in ran]
    if missing:
        row = missing[0]
        config = f"configs/sldd/{row['data']}_{row['backbone']}.yaml{_ROWS[row['row']]}"
        command = f"python train.py pipeline --config {config}"
        lines += ["", f"{len(missing)} of {len(printed)} rows were not run. One is run by its name, the first by "
                  f"`{command} --data.root FOLDER --seeds 0,1,2`."]  # fmt: skip
    return lines


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else None
    return f"{mean:.1f}" + ("" if spread is None else f" ± {spread:.1f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the section into RESULTS.md, or print it."""
    parser = argument_parser(__doc__)
    parser.add_argument("runs", nargs="*", type=Path, default=[Path("runs")], help="folders of runs")
    parser.add_argument("--print", action="store_true", help="print the table and write nothing")
    given = parser.parse_args(arguments)
    lines = table_lines(list(runs_below(given.runs)), published())
    if given.print:
        print("\n".join(lines))
        return
    write_section("The tables of \"Take 5\": `python -m benchmarks.tables`", lines, RESULTS)


if __name__ == "__main__":
    main()
