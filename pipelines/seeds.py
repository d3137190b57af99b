"""A pipeline with several seeds, and what its stages reach on average."""

import copy
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handful.atomic import write_json
from handful.errors import UserError
from pipelines.build import build_datamodule
from pipelines.config import Pipeline
from pipelines.ranks import global_rank
from pipelines.run_folder import folder_of_run
from pipelines.runner import Runner
from pipelines.tables import format_table

#: The file of means and spreads, in the folder of all seeds.
FILE = "seeds.json"


def parse_seeds(given: str | int) -> list[int]:
    """The seeds of `--seeds 0,1,2`.

    Raises:
        UserError: something else than different whole numbers from 0 with commas between.
    """
    parts = [part.strip() for part in str(given).split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"--seeds: whole numbers from 0 with commas between, such as 0,1,2, not {str(given)[:60]!r}")
    seeds = [int(part) for part in parts]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds: {given} has a seed twice")
    return seeds


def run_seeds(pipeline: Pipeline, seeds: Sequence[int], start_at: str | None) -> Path:
    """Run a pipeline once for each seed, in `seed_N` of its folder, and write means and standard deviations.

    The seed is that of the network, its training and dropout; it is that of the data too, order and augmentation, where
    no images are drawn by it: every seed sees the same splits.

    Returns:
        The folder of all seeds. Finished seeds are skipped when the command is repeated.
    """
    folder = folder_of_run(pipeline.run_dir, pipeline.name)
    drawn = build_datamodule(pipeline.data, {}).seed_draws_images
    results = {}
    for seed in seeds:
        one = copy.deepcopy(pipeline)
        one.seed, one.run_dir = seed, str(folder / f"seed_{seed}")
        if one.phases_from is not None:
            one.phases_from = str(Path(one.phases_from) / f"seed_{seed}")
        if not drawn:
            one.data.setdefault("init_args", {})["seed"] = seed
        results[seed] = Runner(one, start_at).run()["stages"]
    if global_rank() == 0:
        summary = summarise(results)
        write_json(folder / FILE, {"seeds": list(seeds), "stages": summary})
        print(f"\n{_table(summary)}\n\n  {len(seeds)} seeds, mean ± standard deviation; written to {folder / FILE}",
              flush=True)  # fmt: skip
    return folder


def summarise(results: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean, standard deviation (of a sample; null for one seed) and values of every measure of every stage.

    Args:
        results: by seed the rows of `results.json`.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    first = next(iter(results.values()))
    for stage, row in first.items():
        found[stage] = {}
        for name in row:
            given = [rows[stage].get(name) for rows in results.values()]
            values = [value for value in given if isinstance(value, int | float) and math.isfinite(value)]
            if len(values) == len(given):
                spread = statistics.stdev(values) if len(values) > 1 else None
                found[stage][name] = {"mean": statistics.fmean(values), "sd": spread, "values": values}
    return found


def _table(summary: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    shown = ("accuracy", "n_features", "features_per_class", "diversity@5")
    rows = [[stage, *(_mean(row.get(name)) for name in shown)] for stage, row in summary.items()]
    return format_table(["stage", *shown], rows)


def _mean(value: Mapping[str, Any] | None) -> str | None:
    if value is None:
        return None
    digits = 2 if value["mean"] >= 1 else 4
    return f"{value['mean']:.{digits}f}" + ("" if value["sd"] is None else f" ± {value['sd']:.{digits}f}")
