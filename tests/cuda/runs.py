"""Whole runs as real processes on the tested device."""

import json
import math
from pathlib import Path

import torch
import yaml

from tests.cuda.common import TEST_DEVICE
from tests.helpers.pipeline import run_train, tiny_config

#: What the Trainer is given: the GPU is to be found by itself.
ACCELERATOR = "auto" if TEST_DEVICE == "cuda" else "cpu"

#: Hides the GPU from a process.
HIDDEN = {"CUDA_VISIBLE_DEVICES": ""}

#: Bits depend on the kernels: those of cuDNN for gradients of convolutions add up in any order otherwise.
SAME_BITS = {"deterministic": True}


def config_file(folder: Path, trainer: dict | None = None, **changes) -> Path:
    """The tiny pipeline, on the tested device and with the same bits every time."""
    config = tiny_config(**changes)
    config["trainer"] = config["trainer"] | {"accelerator": ACCELERATOR} | SAME_BITS | (trainer or {})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def finished(*arguments, killed: bool = False, **environment):
    """`python train.py …` that ends well, or is killed where HANDFUL_KILL says so."""
    done = run_train(*arguments, **environment)
    assert done.returncode == (-9 if killed else 0), f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def pipeline(config: Path, run: Path, *options, **environment):
    """A whole run."""
    return finished("pipeline", "--config", config, "--run_dir", run, *options, **environment)


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, where they were when it was written."""
    return torch.load(path, weights_only=True)["state_dict"]


def checkpoints(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of all checkpoints of a run, on the CPU."""
    return {
        str(path.relative_to(run)): torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        for path in sorted(run.rglob("*.ckpt"))
    }


def assert_same_bits(run: Path, expected: Path) -> None:
    """Two runs left the same weights and wrote the same numbers."""
    found, wanted = checkpoints(run), checkpoints(expected)
    assert list(found) == list(wanted)
    different = [
        f"{file}: {name}"
        for file, tensors in wanted.items()
        for name, value in tensors.items()
        if not torch.equal(value.nan_to_num(), found[file][name].nan_to_num())
    ]
    assert not different, different[:5]
    assert stages(run) == stages(expected)


def stages(run: Path) -> dict[str, dict[str, float]]:
    """The rows of a run's results."""
    return json.loads((run / "results.json").read_text())["stages"]


def assert_close_rows(run: Path, expected: Path, accuracy: float, rest: float = 0.05) -> None:
    """The same weights measured on two devices: accuracies in per cent, other numbers relative."""
    for stage, row in stages(expected).items():
        for name, value in row.items():
            if not isinstance(value, float) or math.isnan(value) or "seconds" in name or "memory" in name:
                continue
            limit = accuracy if "accuracy" in name else rest * max(1.0, abs(value))
            assert abs(stages(run)[stage][name] - value) <= limit, (stage, name, value, stages(run)[stage][name])


def trained_on(run: Path, file: str = "dense/last.ckpt") -> str:
    """The kind of device on which a checkpoint was written."""
    return next(iter(weights(run / file).values())).device.type
