"""The whole pipeline on real photographs, with L_div and without, and the trade-off of its sizes.

`python -m benchmarks.photographs --data cub100.zip --runs FOLDER` trains `configs/sldd/photos.yaml` for three seeds,
with and without L_div (what FOLDER holds already is not repeated), then solves the sparse layer of the
first run for many sizes. Further options go to the pipeline: `-- --data.image_size 160`.
"""

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import write_section
from handful.explain.trade_off import accuracy_grid
from pipelines.parse import PHOTOS, parse_pipeline
from pipelines.runner import Runner
from pipelines.tradeoff import tradeoff

SEEDS = (0, 1, 2)
STAGES = ("dense", "sparse", "finetuned")
SIZES, COUNTS = (20, 50, 100, 200), (3, 5, 10)


def results(data: Path, folder: Path, seed: int, beta: float | None, options: Sequence[str]) -> dict[str, Any]:
    """The results of one run; phases that are finished there are skipped, and refused where they were others."""
    arguments = ["--config", str(PHOTOS), "--data.root", str(data), "--run_dir", str(folder), "--seed", str(seed)]
    if beta is not None:
        arguments += [f"--phases.{phase}.module.beta={beta}" for phase in ("dense", "finetune")]
    pipeline, _ = parse_pipeline([*arguments, "--wandb.mode", "disabled", *options])
    return Runner(pipeline).run()


def stage_lines(runs: dict[tuple[int, str], dict[str, Any]]) -> list[str]:
    """A row per run, then mean and standard deviation of accuracy per stage."""
    lines = [
        "| seed | L_div | " + " | ".join(f"{stage}: accuracy | diversity@5 | dependence" for stage in STAGES)
        + " | seconds by phase |",
        "|" + "---|" * (3 + 3 * len(STAGES)),
    ]  # fmt: skip
    for (seed, name), found in runs.items():
        cells = [
            f"{row['accuracy']:.2f} | {row['diversity@5']:.3f} | {row['dependence']:.3f}"
            for row in (found["stages"][stage] for stage in STAGES)
        ]
        seconds = ", ".join(f"{phase} {spent:.0f}" for phase, spent in found["seconds"].items())
        lines.append(f"| {seed} | {name} | {' | '.join(cells)} | {seconds} |")
    for name in dict.fromkeys(name for _, name in runs):
        cells = []
        for stage in STAGES:
            values = [found["stages"][stage]["accuracy"] for (_, other), found in runs.items() if other == name]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.2f} ± {spread:.2f} | | ")
        lines.append(f"| mean | {name} | {' | '.join(cells)} | |")
    return lines


def tradeoff_lines(run: Path) -> list[str]:
    """Test accuracy over the number of features and of features per class, before finetuning."""
    tradeoff(str(run), n_features=",".join(map(str, SIZES)), features_per_class=",".join(map(str, COUNTS)))
    record = json.loads((run / "tradeoff" / "tradeoff.json").read_text())
    cells = accuracy_grid(record["sizes"])
    lines = ["| features | " + " | ".join(f"{k} per class" for k in COUNTS) + " |", "|" + "---|" * (1 + len(COUNTS))]
    for n in SIZES:
        lines.append(f"| {n} | " + " | ".join(f"{cells[n][k]:.2f}" if k in cells[n] else "–" for k in COUNTS) + " |")
    return lines


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HANDFUL_DATA", ".")) / "cub100.zip")
    parser.add_argument("--runs", type=Path, default=Path("runs/photographs"))
    parser.add_argument("options", nargs="*", help="of the pipeline, behind --")
    given = parser.parse_args()
    runs, folders = {}, {}
    for seed in SEEDS:
        for beta, name in ((None, "as configured"), (0.0, "without")):
            folders[seed, name] = given.runs / f"seed{seed}_{name.replace(' ', '_')}"
            runs[seed, name] = results(given.data, folders[seed, name], seed, beta, given.options)
    first = runs[0, "as configured"]
    lines = [
        f"`{PHOTOS.relative_to(PHOTOS.parents[2])}` on {given.data.name}{' with ' if given.options else ''}"
        f"{' '.join(given.options)}; test images, per cent; started from {first.get('weights', 'fresh weights')}.",
        "",
        *stage_lines(runs),
        "",
        "Before finetuning, the sparse layer of the first run for other sizes:",
        "",
        *tradeoff_lines(folders[0, "as configured"]),
    ]
    write_section("SLDD on photographs (`python -m benchmarks.photographs`)", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
