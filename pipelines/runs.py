"""A finished run, read back from its folder."""

import json
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from datamodules.base import HandfulDataModule
from handful.errors import UserError, did_you_mean
from handful.images import Inputs
from handful.networks import input_statistics
from lightning_modules import PhaseModule, load_module
from lightning_modules.evaluate import SLDD_STAGES
from pipelines.build import build_datamodule
from pipelines.files import digest, made_from


class Run:
    """The folder of a run: its configuration, its modules, its data.

    Args:
        folder: as given to `--run_dir`.

    Raises:
        UserError: the folder is not that of a run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "config.yaml").is_file():
            raise UserError(f"{self.folder}: not the folder of a run; it has no config.yaml")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The run's configuration, everything resolved."""
        path = self.folder / "config.yaml"
        try:
            config = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
        if not isinstance(config, dict) or not isinstance(config.get("phases"), dict):
            raise UserError(f"{path}: not the configuration of a run; it has no phases")
        _check_config(path, config)
        return config

    @property
    def phases(self) -> list[str]:
        """The finished phases, in order."""
        names = list(self.config["phases"])
        found = []
        for place, name in enumerate(names):
            record = self.folder / name / "done.json"
            if record.is_file():
                expected = made_from(self.folder, names[:place])
                # a phase that stands on one that was made anew since is not of this run any more
                if json.loads(record.read_text()).get("made_from", expected) == expected:
                    found.append(name)
        return found

    def made_of(self, phase: str) -> str:
        """What a finished phase's weights are known by; it changes when the phase is made anew."""
        return digest(self.folder / phase / "done.json")

    @property
    def results(self) -> dict[str, Any]:
        """The content of `results.json`; empty while the run is not finished."""
        path = self.folder / "results.json"
        try:
            return json.loads(path.read_text()) if path.is_file() else {}
        except ValueError as error:
            raise UserError(f"{path}: not a JSON file ({error})") from error

    def phase_of(self, stage: str | None = None) -> str:
        """The phase that holds a stage's classifier: a phase's name is taken as it is.

        Without a stage: the last finished phase that holds a checkpoint.

        Raises:
            UserError: no finished phase holds that stage.
        """
        holding = [name for name in self.phases if (self.folder / name / "best.ckpt").is_file()]
        if not holding:
            raise UserError(f"{self.folder}: no phase of this run is finished yet")
        phase = holding[-1] if stage is None else self._stages().get(stage, stage)
        if phase not in holding:
            near = did_you_mean(str(stage), [*holding, *self._stages()])
            raise UserError(f"{self.folder}: no finished stage {stage!r}; there are {', '.join(holding)}{near}")
        return phase

    def load(self, stage: str | None = None) -> PhaseModule:
        """The module of a stage or phase, in evaluation mode on the CPU."""
        return load_module(self.folder / self.phase_of(stage) / "best.ckpt")

    def datamodule(self, **overrides: Any) -> HandfulDataModule:
        """The run's data module, normalised as in the run."""
        path = self.folder / "config.yaml"
        _check_spec(path, "data", self.config.get("data"))
        if not isinstance(self.config.get("network"), dict):
            raise UserError(f"{path}: network is no description of a network")
        datamodule = build_datamodule(self.config["data"], overrides)
        if datamodule.normalisation == "backbone":
            datamodule.set_normalisation(*input_statistics(self.config["network"]))
        return datamodule

    def inputs(self) -> "Inputs":
        """What the run's images are like: from its results, so that the images need not be at hand; else from them."""
        data = self.results.get("data", {})
        keys = [field.name for field in fields(Inputs)]
        if not isinstance(data, dict) or not set(keys) <= set(data):
            return Inputs.of(self.datamodule())
        return Inputs.from_record(data, str(self.folder / "results.json"))

    def _stages(self) -> dict[str, str]:
        for phase in self.config["phases"].values():
            stages = (phase["module"].get("init_args") or {}).get("stages")
            if stages:
                return dict(stages)
        return dict(SLDD_STAGES)


def _check_config(path: Path, config: dict[str, Any]) -> None:
    """Refuse phases that are something else than a pipeline writes.

    Raises:
        UserError: names the first key.
    """
    for name, phase in config["phases"].items():
        if not isinstance(name, str) or not isinstance(phase, dict):
            raise UserError(f"{path}: phases.{name} is no phase with a module")
        _check_spec(path, f"phases.{name}.module", phase.get("module"))


def _check_spec(path: Path, key: str, spec: Any) -> None:
    if not isinstance(spec, dict) or not isinstance(spec.get("class_path"), str):
        raise UserError(f"{path}: {key} names no class (class_path)")
    if not isinstance(spec.get("init_args") or {}, dict):
        raise UserError(f"{path}: {key}.init_args are no arguments by name")
