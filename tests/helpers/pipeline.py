"""A pipeline that takes seconds: small toy birds, a narrow ResNet-20."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def tiny_config(**changes) -> dict:
    """All four phases, a few images; `changes` replace top-level keys."""
    optimizer = {"class_path": "AdamW", "init_args": {"lr": 0.01}}
    schedule = {"class_path": "CosineAnnealingLR", "init_args": {"T_max": 3}}
    average = {"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.5}}
    kill = {"class_path": "tests.helpers.interrupt.KillAt"}
    config = {
        "name": "tiny",
        "network": {"backbone": "cifar_resnet20", "options": {"width": 4}, "dropout": 0.2},
        "data": {
            "class_path": "ToyBirds",
            "init_args": {
                "n_classes": 3,
                "images_per_class": 9,
                "val_images_per_class": 3,
                "test_images_per_class": 5,
                "image_size": 24,
                "batch_size": 8,
            },
        },
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "log_every_n_steps": 1},
        "wandb": {"mode": "disabled"},
        "phases": {
            "dense": {
                "module": {"class_path": "Dense", "init_args": {"optimizer": optimizer, "lr_scheduler": schedule}},
                "max_epochs": 3,
                "callbacks": [{"class_path": "Diversity"}, kill],
            },
            "sparsify": {"module": {"class_path": "Sparsify", "init_args": {"n_features": 5, "features_per_class": 2}}},
            "finetune": {
                "module": {"class_path": "Finetune"},
                "max_epochs": 3,
                "callbacks": [{"class_path": "Diversity"}, kill, average],
            },
            "evaluate": {"module": {"class_path": "Evaluate"}},
        },
    }
    return config | changes


@contextmanager
def without_reports() -> Iterator[None]:
    """Pipelines of this process and of those forked from it end with their phases.

    The report and the summary on the dashboards take a third of a small run.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.commands.pipeline._write_report", lambda pipeline, folder: None)
        yield


def write_config(folder: Path, **changes) -> Path:
    """The tiny pipeline as a config file."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_config(**changes), sort_keys=False))
    return path


def run_train(*arguments: str, timeout: int = 300, **environment: str) -> subprocess.CompletedProcess:
    """`python train.py …` in a process of its own, as a person would start it."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
