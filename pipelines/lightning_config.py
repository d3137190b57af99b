"""A phase as a config of `train.py fit|validate|test|predict`."""

from dataclasses import asdict
from typing import Any

import lightning_modules
import pipelines.phases
from datamodules.base import HandfulDataModule
from lightning_modules import TrainedModule
from pipelines.build import plain
from pipelines.config import PhaseConfig, Pipeline
from pipelines.phases import Phase, Train


def phase_config(
    pipeline: Pipeline, phase: PhaseConfig, what: Phase | TrainedModule, datamodule: HandfulDataModule
) -> dict[str, Any]:
    """What the phase's checkpoint holds, with the data and the normalisation that it was made with.

    Args:
        pipeline: the run.
        phase: the phase.
        what: the module that the phase trains or has written; the phase itself where it has written none.
        datamodule: of the phase.
    """
    what = what.module if isinstance(what, Train) else what
    init_args = dict(phase.module.get("init_args") or {}) if _names(phase.module["class_path"], type(what)) else {}
    if isinstance(what, TrainedModule):
        init_args |= {name: value for name, value in what.hparams.items() if name != "num_classes"}
    data = {**(pipeline.data.get("init_args") or {}), **phase.data}
    data["normalisation"] = {"mean": list(datamodule.mean), "std": list(datamodule.std)}
    config = {
        "seed_everything": pipeline.seed,
        "trainer": {**pipeline.trainer, **phase.trainer, "max_epochs": phase.max_epochs},
        "model": {"class_path": _path(type(what)), "init_args": init_args},
        "data": {"class_path": pipeline.data["class_path"], "init_args": data},
    }
    return dict(plain(config))


def pipeline_config(pipeline: Pipeline) -> dict[str, Any]:
    """The whole run in plain values: a config that repeats it, also where it has taken phases of another run."""
    return {key: value for key, value in plain(asdict(pipeline)).items() if key != "phases_from"}


def _names(path: str, cls: type) -> bool:
    """Whether a class path of a config is that of a class."""
    return path in (cls.__name__, _path(cls), f"{cls.__module__}.{cls.__name__}")


def _path(cls: type) -> str:
    """The path of a class, as short as it can be imported by."""
    for package in (lightning_modules, pipelines.phases):
        if getattr(package, cls.__name__, None) is cls:
            return f"{package.__name__}.{cls.__name__}"
    return f"{cls.__module__}.{cls.__name__}"
