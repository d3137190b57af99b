"""Pipelines killed at random moments end as the uninterrupted one: `python -m tests.soak.kills [--points 150]`.

A point is a change of a file in the run's folder, or a training batch. The process is killed there as by a power cut,
sometimes again while it resumes; the same command then finishes the run, and everything it left is compared.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import pipelines.cli  # noqa: F401  imported before processes are forked
from tests.helpers import forked
from tests.helpers.pipeline import tiny_config

#: Entries of a checkpoint that hold paths or times.
_OWN = {"callbacks", "hparams_name", "pytorch-lightning_version"}

#: What a finished run may not hold.
LEFT_BEHIND = ("*.tmp", "*.writing", "*.replaced", ".lock")


def _batches(phase: dict[str, Any]) -> dict[str, Any]:
    return phase | {"callbacks": [*phase.get("callbacks", []), {"class_path": "tests.helpers.interrupt.KillAt"}]}


def configs() -> dict[str, dict[str, Any]]:
    """The pipelines, each of a few seconds.

    The three kinds, and trainings whose steps have more state: accumulated and clipped gradients in bf16 under one
    cycle and under a plateau; LBFGS.
    """
    options = {"monitor": "val/loss", "patience": 1, "min_delta": 100}
    early = {"class_path": "EarlyStopping", "init_args": options}
    sldd = tiny_config()
    sldd["phases"]["finetune"]["callbacks"].append(early)
    sldd["phases"]["finetune"]["max_epochs"] = 6
    dense = _batches({"module": {"class_path": "Dense"}, "max_epochs": 2})
    filters = {"class_path": "FindFilters", "init_args": {
        "k1": 3, "k2": 2, "grid_k1": [1, 3], "grid_k2": [1, 2], "images_per_filter": 2,
        "drawn_classes": 2}}  # fmt: skip
    plugin = {"class_path": "InfoMaxPlugin", "init_args": {
        "image_size": 24, "units": 8, "hidden": 8, "places": 8, "bank_size": 64, "samples": 2}}  # fmt: skip
    cycle = {"class_path": "OneCycleLR", "init_args": {"max_lr": 0.05, "total_steps": 6}}
    momentum = {"class_path": "SGD", "init_args": {"lr": 0.01, "momentum": 0.9, "nesterov": True}}
    stepwise = {"class_path": "Dense", "init_args": {"optimizer": momentum, "lr_scheduler": cycle}}
    plateau = {"class_path": "ReduceLROnPlateau", "init_args": {"patience": 0, "threshold": 0.5}}
    slowed = {"class_path": "Finetune", "init_args": {"lr_scheduler": plateau}}
    sparse = {"module": {"class_path": "Sparsify", "init_args": {"n_features": 5, "features_per_class": 2}}}
    newton = {"class_path": "LBFGS", "init_args": {"lr": 0.1, "max_iter": 3, "history_size": 4}}
    stages = {"dense": "dense", "decomposed": "decompose", "retrained": "retrain"}
    clipped = tiny_config(
        phases={
            "dense": _batches({"module": stepwise, "max_epochs": 3}),
            "sparsify": sparse,
            "finetune": _batches({"module": slowed, "max_epochs": 3}),
        }
    )
    clipped["trainer"] |= {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2, "precision": "bf16-mixed"}
    return {
        "sldd": sldd,
        "clipped": clipped,
        "lbfgs": tiny_config(
            phases={
                "dense": _batches(
                    {"module": {"class_path": "Dense", "init_args": {"optimizer": newton}}, "max_epochs": 2}
                ),
                "sparsify": sparse,
            }
        ),
        "plugin": tiny_config(
            phases={
                "dense": dense | {"callbacks": [*dense["callbacks"], {"class_path": "KeepCheckpoints"}]},
                "plugin": _batches({"module": plugin, "max_epochs": 2, "monitor": "val/loss"}),
                "compare": {"module": {"class_path": "CompareMaps", "init_args": {
                    "plugins": {"one": "plugin"}, "images": 2}}},
            }
        ),
        "filters": tiny_config(
            phases={
                "dense": dense,
                "filters": {"module": filters},
                "decompose": {"module": {"class_path": "Decompose"}},
                "retrain": _batches({"module": {"class_path": "Retrain"}, "max_epochs": 2}),
                "evaluate": {"module": {"class_path": "Evaluate", "init_args": {"stages": stages}}},
            }
        ),
    }  # fmt: skip


@dataclass
class Pipeline:
    """One pipeline and what its uninterrupted run left."""

    name: str
    folder: Path
    events: int = 0
    expected: dict[str, Any] = field(default_factory=dict)

    def command(self, run: Path) -> list[str]:
        """The command of a run in a folder."""
        config = self.folder / f"{self.name}.yaml"
        return ["pipeline", "--trust", "tests", "--config", str(config), "--run_dir", str(run)]

    def prepare(self, config: dict[str, Any]) -> None:
        """Run it uninterrupted."""
        (self.folder / f"{self.name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        run = self.folder / f"{self.name}-whole"
        # the first run also fills the cache of the data
        ended = forked.run(self.command(run), run)
        if ended.status:
            raise RuntimeError(f"{self.name}: the uninterrupted run failed\n{ended.text}")
        self.events, self.expected = ended.events, content(run)

    def try_point(self, kills: list[int], number: int) -> str:
        """Kill at some events, one after another, finish, compare; what is wrong, or nothing."""
        run = self.folder / f"{self.name}-{number}"
        try:
            for kill in kills:
                ended = forked.run(self.command(run), run, kill_at=kill)
                if ended.status not in (-9, 0):
                    return f"ended with {ended.status} before the kill: {ended.text[-800:]}"
            ended = forked.run(self.command(run), run)
            if ended.status:
                return f"the run that finishes ended with {ended.status}: {ended.text[-800:]}"
            left = [str(p.relative_to(run)) for pattern in LEFT_BEHIND for p in run.rglob(pattern)]
            return f"left behind {', '.join(left)}" if left else difference(self.expected, content(run))
        finally:
            shutil.rmtree(run, ignore_errors=True)


def content(run: Path) -> dict[str, Any]:
    """All that a run has left and that does not depend on time or place, by file."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        name = str(path.relative_to(run))
        if path.suffix in (".ckpt", ".pt"):
            value = torch.load(path, weights_only=True)
            found[name] = {k: v for k, v in value.items() if k not in _OWN} if isinstance(value, dict) else value
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {key: arrays[key].tobytes() for key in arrays.files}
        elif path.name == "results.json":
            found[name] = json.loads(path.read_text())["stages"]
        elif path.name in ("done.json", "started.json", "index.html", "config.yaml"):
            found[name] = None
        elif path.name == "metrics.csv":
            found[name] = path.read_text()
        elif path.suffix in (".csv", ".json", ".png"):
            found[name] = path.read_bytes()
        else:
            found[name] = None
    return found


def difference(expected: Any, found: Any, where: str = "") -> str:
    """The first place where two runs differ; empty where they are equal."""
    if isinstance(expected, dict) and isinstance(found, dict):
        if expected.keys() != found.keys():
            return f"{where}: other entries ({sorted(map(str, expected.keys() ^ found.keys()))[:4]})"
        told = (difference(expected[key], found[key], f"{where}/{key}") for key in expected)
        return next((text for text in told if text), "")
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        told = (difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(expected, found, strict=True)))
        return next((text for text in told if text), "")
    if isinstance(expected, torch.Tensor) and isinstance(found, torch.Tensor):
        return "" if torch.equal(expected, found) else f"{where}: other numbers"
    return "" if expected == found else f"{where}: {str(expected)[:60]!r} became {str(found)[:60]!r}"


def run_points(points: int, seed: int, folder: Path, names: list[str] | None = None) -> list[str]:
    """Try points spread over the pipelines.

    Args:
        points: how many in all.
        seed: of their choice.
        folder: to work in.
        names: of the pipelines; all where None.

    Returns:
        A sentence per point that did not end as the uninterrupted run.
    """
    faults = []
    chosen = {name: config for name, config in configs().items() if names is None or name in names}
    for place, (name, config) in enumerate(chosen.items()):
        pipeline = Pipeline(name, folder)
        pipeline.prepare(config)
        draw = random.Random(f"{seed}/{name}")
        count = points // len(chosen) + (place < points % len(chosen))
        for number in range(count):
            # evenly over the run, so that no phase is left out; every third is killed again
            share = (number + draw.random()) / count
            kills = [1 + int(share * (pipeline.events - 1))]
            if number % 3 == 2:
                kills.append(draw.randint(1, max(2, pipeline.events - kills[0])))
            fault = pipeline.try_point(kills, number)
            if fault:
                faults.append(f"{name}, killed at {kills} of {pipeline.events}: {fault}")
                print(f"FAULT {faults[-1]}", flush=True)
    return faults


def main() -> int:
    """Try the points and say what differed; status 1 where anything did."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kills", description=__doc__)
    parser.add_argument("--points", type=int, default=150, help="how many in all")
    parser.add_argument("--seed", type=int, default=0, help="other points")
    parser.add_argument("--pipelines", nargs="+", choices=tuple(configs()), help="all, where not given")
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
    torch.set_num_threads(1)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        faults = run_points(given.points, given.seed, Path(folder), given.pipelines)
    print(f"  {given.points} kills in {time.monotonic() - start:.0f} s, {len(faults)} faults", file=sys.stdout)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
