"""`results.json`: the rows, seconds and memory of all phases, and what they depend on."""

import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import timm
import torch
from lightning.pytorch.utilities import rank_zero_warn

import handful
from handful.atomic import write_json
from handful.errors import UserError
from pipelines.phase_folder import PhaseFolder
from pipelines.tables import stage_table

#: Digits after the point; float32 sums of other batches differ only beyond them.
DIGITS = 4


def gather_results(run: Path, phases: Sequence[str], data: Mapping[str, Any]) -> dict[str, Any]:
    """The rows and records of all finished phases.

    Args:
        run: folder of the run.
        phases: their names, in order.
        data: summary of the data set.

    Raises:
        UserError: a phase is not finished.
    """
    stages: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    memory: dict[str, float] = {}
    weights = ""
    for name in phases:
        folder = PhaseFolder(run / name)
        record = folder.done()
        if record is None:
            raise UserError(f"{folder.done_file}: was removed during the run")
        seconds[name], memory[name] = record["seconds"], record["peak_memory_mib"]
        weights = weights or str(record.get("started_from", ""))
        stages |= folder.stages()
    return {
        "stages": {stage: {k: _rounded(v) for k, v in row.items()} for stage, row in stages.items()},
        "seconds": seconds,
        "peak_memory_mib": memory,
        **({"weights": weights} if weights else {}),
        "versions": versions(),
        "data": dict(data),
    }


def write_results(run: Path, results: Mapping[str, Any]) -> None:
    """Write `results.json`, and print its stages as a table."""
    write_json(run / "results.json", results)
    if results["stages"]:
        print(f"\n{stage_table(results['stages'])}\n\n  written to {run / 'results.json'}", flush=True)
        for sentence in near_chance(results):
            rank_zero_warn(sentence)


def near_chance(results: Mapping[str, Any]) -> list[str]:
    """The stages whose accuracy guessing could have reached, each in a sentence that says what to do.

    Args:
        results: the content of `results.json`; the accuracies are balanced, so that always guessing the largest class
            gains nothing.

    Example:
        >>> data = {"num_classes": 10, "images": {"test": 500}}
        >>> near_chance({"stages": {"dense": {"balanced_accuracy": 80.0}}, "data": data})
        []
    """
    data = results.get("data", {})
    classes, images = data.get("num_classes", 0), (data.get("images") or {}).get("test", 0)
    if classes < 2 or not images:
        return []
    chance = 1 / classes
    limit = 100 * (chance + 3 * math.sqrt(chance * (1 - chance) / images))
    return [
        f"stage {stage}: balanced accuracy {row['balanced_accuracy']:.1f} %, and guessing among {classes} classes "
        f"gives {100 * chance:.1f} %: train longer (--phases.NAME.max_epochs), begin with published weights "
        "(--network.pretrained true), try another learning rate, or look at the labels"
        for stage, row in results.get("stages", {}).items()
        if isinstance(row.get("balanced_accuracy"), int | float) and row["balanced_accuracy"] <= limit
    ]


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {
        "handful": handful.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "timm": timm.__version__,
    }


def _rounded(value: Any) -> Any:
    """Floats to the digits that hold, and what is not a number as null."""
    if not isinstance(value, float):
        return value
    return round(value, DIGITS) if math.isfinite(value) else None
