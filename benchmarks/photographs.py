"""The whole pipeline on real photographs: with L_div, without, with the mutual-channel loss; the trade-off of sizes.

`python -m benchmarks.photographs --data cub100.zip --runs FOLDER` trains `configs/sldd/photos.yaml` for three seeds
and three losses (what FOLDER holds already is not repeated), then solves the sparse layer of the first run for many
sizes. Further options go to the pipeline: `-- --data.image_size 160`.

Parts may run in processes of their own, `--seeds 1 --losses mcl`, which write no section; `--only_report` writes it
from the finished runs in FOLDER, trains nothing, and names the runs that are missing.
"""

import json
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from handful.errors import UserError
from handful.explain.trade_off import accuracy_grid
from pipelines.parse import parse_pipeline
from pipelines.plain_options import PHOTOS
from pipelines.runner import Runner
from pipelines.seeds import parse_seeds
from pipelines.tradeoff import tradeoff

SEEDS = (0, 1, 2)
STAGES = ("dense", "sparse", "finetuned")
MEASURES = {"accuracy": 2, "diversity@5": 3, "dependence": 3}
SIZES, COUNTS = (20, 50, 100, 200), (3, 5, 10)


class Loss(NamedTuple):
    """A row of the table.

    Attributes:
        title: of the row.
        folder: what its runs' folders are called by, behind the seed.
        config: put on top of the pipeline's, if any.
    """

    title: str
    folder: str
    config: str | None


LOSSES = {
    "l_div": Loss("L_div", "as_configured", None),
    "without": Loss("none", "without", "without_l_div.yaml"),
    "mcl": Loss("MCL", "mcl", "mcl.yaml"),
}

#: Results of runs, by seed and loss.
Runs = Mapping[tuple[int, str], dict[str, Any]]


def folder_of(runs: Path, seed: int, loss: str) -> Path:
    """Where a run lies."""
    return runs / f"seed{seed}_{LOSSES[loss].folder}"


def train(data: Path, folder: Path, seed: int, loss: str, options: Sequence[str]) -> None:
    """Train one run; phases that are finished there are skipped, and refused where they were others."""
    arguments = ["--config", str(PHOTOS), "--data.root", str(data), "--run_dir", str(folder), "--seed", str(seed)]
    further = LOSSES[loss].config
    if further:
        arguments += ["--config", str(PHOTOS.with_name(further))]
    pipeline, _ = parse_pipeline([*arguments, "--wandb.mode", "disabled", *options])
    Runner(pipeline).run()


def finished(runs: Path, wanted: Iterable[tuple[int, str]]) -> dict[tuple[int, str], dict[str, Any]]:
    """The results of the runs that are there with all stages; `settings` of each are added.

    Raises:
        UserError: a folder holds another run than its name says, or runs differ in more than seed and loss.
    """
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for seed, loss in wanted:
        folder = folder_of(runs, seed, loss)
        if not (folder / "results.json").is_file():
            continue
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        if not set(STAGES) <= set(results["stages"]):
            continue
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        if (config["seed"], loss_of(config)) != (seed, loss):
            raise UserError(f"{folder}: holds a run of seed {config['seed']} with {LOSSES[loss_of(config)].title}")
        results["settings"] = settings_of(config, results)
        first = next(iter(found.values()), results)
        if results["settings"] != first["settings"]:
            raise UserError(f"{folder}: {results['settings']}, but other runs: {first['settings']}")
        found[seed, loss] = results
    return found


def loss_of(config: Mapping[str, Any]) -> str:
    """The loss of a run's resolved config, by its name here."""
    dense, finetune = (config["phases"][name]["module"]["init_args"] for name in ("dense", "finetune"))
    if dense["beta"] and finetune["beta"]:
        return "l_div"
    return "without" if dense.get("mutual_channel") is None else "mcl"


def settings_of(config: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """What all runs of the table share, in words."""
    phases = config["phases"]
    data, sizes = results["data"], phases["sparsify"]["module"]["init_args"]
    return (
        f"{data['images']['train']:,} training and {data['images']['test']:,} test images of {data['num_classes']} "
        f"classes at {data['image_size']} px (data {data['fingerprint']}); {config['network']['backbone']}, "
        f"{phases['dense']['max_epochs']} epochs dense and {phases['finetune']['max_epochs']} of finetuning, "
        f"{sizes['n_features']} features, {sizes['features_per_class']} per class; "
        f"started from {results.get('weights', 'fresh weights')}"
    )


def stage_lines(runs: Runs) -> list[str]:
    """A row per run, then mean and standard deviation of every loss."""
    lines = [
        "| seed | loss | " + " | ".join(f"{stage}: {' | '.join(MEASURES)}" for stage in STAGES) + " | s by phase |",
        "|" + "---|" * (3 + len(MEASURES) * len(STAGES)),
    ]
    for (seed, loss), found in runs.items():
        cells = [_number(value, MEASURES[name]) for name, value in _values(found)]
        seconds = ", ".join(f"{phase} {spent:.0f}" for phase, spent in found["seconds"].items())
        lines.append(f"| {seed} | {LOSSES[loss].title} | {' | '.join(cells)} | {seconds} |")
    for loss in dict.fromkeys(loss for _, loss in runs):
        own = [_values(found) for (_, other), found in runs.items() if other == loss]
        cells = [_spread([row[i][1] for row in own], MEASURES[name]) for i, (name, _) in enumerate(own[0])]
        lines.append(f"| mean of {len(own)} | {LOSSES[loss].title} | {' | '.join(cells)} | |")
    return lines


def difference_lines(runs: Runs) -> list[str]:
    """What L_div and the mutual-channel loss change against neither, seed by seed."""
    lines = ["| against none, same seed | " + " | ".join(f"{stage}: {' | '.join(MEASURES)}" for stage in STAGES) + " |",
             "|" + "---|" * (1 + len(MEASURES) * len(STAGES))]  # fmt: skip
    for loss in LOSSES:
        pairs = [(_values(runs[seed, loss]), _values(runs[seed, "without"]))
                 for seed in dict.fromkeys(seed for seed, _ in runs)
                 if loss != "without" and {(seed, loss), (seed, "without")} <= set(runs)]  # fmt: skip
        if pairs:
            cells = [
                _spread([None if None in (a[i][1], b[i][1]) else a[i][1] - b[i][1] for a, b in pairs], MEASURES[name],
                        "+")
                for i, (name, _) in enumerate(pairs[0][0])
            ]  # fmt: skip
            seeds = f"{len(pairs)} seed{'s' if len(pairs) > 1 else ''}"
            lines.append(f"| {LOSSES[loss].title}, {seeds} | {' | '.join(cells)} |")
    return lines if len(lines) > 2 else []


def _values(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, found["stages"][stage].get(name)) for stage in STAGES for name in MEASURES]


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.{digits}f}"


def _spread(values: Sequence[float | None], digits: int, sign: str = "") -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "–"
    spread = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return _number(statistics.mean(known), digits, sign) + spread


def tradeoff_lines(run: Path) -> list[str]:
    """Test accuracy over the number of features and of features per class, before finetuning."""
    record = json.loads((run / "tradeoff" / "tradeoff.json").read_text(encoding="utf-8"))
    cells = accuracy_grid(record["sizes"])
    lines = ["| features | " + " | ".join(f"{k} per class" for k in COUNTS) + " |", "|" + "---|" * (1 + len(COUNTS))]
    for n in SIZES:
        row = [_number(cells.get(n, {}).get(k), 2) for k in COUNTS]
        lines.append(f"| {n} | {' | '.join(row)} |")
    return lines


def report_lines(folder: Path, data: str, seeds: Sequence[int] = SEEDS) -> list[str]:
    """The section, from the finished runs of a folder; those that are missing are named.

    Raises:
        UserError: no run is finished, or runs are not rows of one table.
    """
    wanted = [(seed, loss) for seed in seeds for loss in LOSSES]
    runs = finished(folder, wanted)
    if not runs:
        raise UserError(f"{folder}: no run is finished, such as {folder_of(folder, *wanted[0]).name}")
    missing = [folder_of(folder, *one).name for one in wanted if one not in runs]
    lines = [
        f"`{PHOTOS.relative_to(PHOTOS.parents[2])}` on {data}: {next(iter(runs.values()))['settings']}. Test images; "
        "accuracy in per cent. Rows: `without_l_div.yaml` and `mcl.yaml` on top of it.",
        *([f"Not run: {', '.join(missing)}."] if missing else []),
        "", *stage_lines(runs), "", *difference_lines(runs), "",
    ]  # fmt: skip
    first = folder_of(folder, seeds[0], "l_div")
    if (first / "tradeoff/tradeoff.json").is_file():
        lines += ["Before finetuning, the sparse layer of the first run for other sizes:", "", *tradeoff_lines(first)]
    else:
        lines += ["The sparse layer was not solved for other sizes."]
    return lines


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HANDFUL_DATA", ".")) / "cub100.zip")
    parser.add_argument("--runs", type=Path, default=Path("runs/photographs"))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="with commas between")
    parser.add_argument("--losses", default=",".join(LOSSES), help="with commas between")
    parser.add_argument("--only_report", action="store_true", help="write the section from the runs that are finished")
    parser.add_argument("options", nargs="*", help="of the pipeline, behind --")
    given = parser.parse_args()
    losses = given.losses.split(",")
    if not set(losses) <= set(LOSSES):
        parser.error(f"--losses: {given.losses}; there are {', '.join(LOSSES)}")
    try:
        seeds = parse_seeds(given.seeds)
        if not given.only_report:
            for seed in seeds:
                for loss in losses:
                    train(given.data, folder_of(given.runs, seed, loss), seed, loss, given.options)
            if len(seeds) < len(SEEDS) or {*losses} != {*LOSSES}:  # a part of the table
                return
            tradeoff(
                str(folder_of(given.runs, seeds[0], "l_div")),
                n_features=",".join(map(str, SIZES)),
                features_per_class=",".join(map(str, COUNTS)),
            )
        lines = report_lines(given.runs, given.data.name, seeds)
    except UserError as error:
        sys.exit(str(error))
    write_section("SLDD on photographs (`python -m benchmarks.photographs`)", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
