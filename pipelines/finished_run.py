"""A finished run, read back from its folder."""

from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.base import HandfulDataModule
from handful.errors import UserError, did_you_mean
from handful.file_digest import file_digest
from handful.images import Inputs
from lightning_modules import TrainedModule, load_module
from pipelines.build import build_datamodule
from pipelines.configs import read_config
from pipelines.find_run import find_run
from pipelines.output_places import own_cache
from pipelines.phase_folder import SHORT, PhaseFolder, made_from
from pipelines.phases import SLDD_STAGES
from pipelines.records import read_results
from pipelines.renamed_classes import with_present_names


class Run:
    """The folder of a run: its configuration, its modules, its data.

    Args:
        folder: of the run, or of one of its phases, which is then the one that is meant; or a folder that holds one
            run and no other.

    Raises:
        UserError: there is no run, or there are several.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder, self._given_phase = find_run(folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The run's configuration, everything resolved."""
        path = self.folder / "config.yaml"
        _, config = read_config(path)
        if not isinstance(config.get("phases"), dict):
            raise UserError(f"{path}: not the configuration of a run; it has no phases")
        _check_config(path, config)
        return dict(with_present_names(config))

    @property
    def phases(self) -> list[str]:
        """The finished phases, in order."""
        names = list(self.config["phases"])
        found = []
        for place, name in enumerate(names):
            record = PhaseFolder(self.folder / name).done()
            # a phase that stands on one that ran again since is not of this run any more
            if record is not None and record["made_from"] == made_from(self.folder, names[:place]):
                found.append(name)
        return found

    def made_of(self, phase: str) -> str:
        """The version of a finished phase, by the digest of its record."""
        return file_digest(self.folder / phase / "done.json")[:SHORT]

    @property
    def results(self) -> dict[str, Any]:
        """The content of `results.json`; empty while the run is not finished."""
        return read_results(self.folder)

    def phase_of(self, stage: str | None = None) -> str:
        """The phase that holds a stage's classifier: a phase's name is taken as it is.

        Without a stage: the last finished phase that holds a checkpoint.

        Raises:
            UserError: no finished phase holds that stage.
        """
        holding = [name for name in self.phases if PhaseFolder(self.folder / name).holds_checkpoint]
        if not holding:
            raise UserError(f"{self.folder}: no phase of this run is finished yet")
        stage = stage or self._given_phase
        phase = holding[-1] if stage is None else self._stages().get(stage, stage)
        if phase not in holding:
            there = [name for name, of_stage in self._stages().items() if of_stage in holding]
            near = did_you_mean(str(stage), [*holding, *there])
            raise UserError(f"{self.folder}: no finished stage {stage!r}; there are {', '.join(holding)}{near}")
        self._verify(phase)
        return phase

    def stage_of(self, phase: str) -> str:
        """The stage, as `results.json` calls it, that a phase holds; the phase's own name where it is none."""
        return next((stage for stage, holding in self._stages().items() if holding == phase), phase)

    def _verify(self, phase: str) -> None:
        """Refuse a phase with damaged files; say what is missing of the others, which are not read."""
        PhaseFolder(self.folder / phase).verify()
        for other in self.phases:
            for sentence in PhaseFolder(self.folder / other).missing():
                rank_zero_warn(sentence)

    def verify(self) -> None:
        """Refuse damaged files of any finished phase.

        Raises:
            UserError: names the first.
        """
        for phase in self.phases:
            PhaseFolder(self.folder / phase).verify()

    def load(self, stage: str | None = None) -> TrainedModule:
        """The module of a stage or phase, in evaluation mode on the CPU."""
        return load_module(self.folder / self.phase_of(stage) / "best.ckpt")

    def datamodule(self, **overrides: Any) -> HandfulDataModule:
        """The run's data module, normalised as in the run."""
        path = self.folder / "config.yaml"
        _check_spec(path, "data", self.config.get("data"))
        if not isinstance(self.config.get("network"), dict):
            raise UserError(f"{path}: network is not a description of a network")
        datamodule = build_datamodule(own_cache(self.config["data"], path), overrides)
        datamodule.follow(self.config["network"])
        return datamodule

    def inputs(self) -> "Inputs":
        """What the run's images are like: from its results, so that the images need not be at hand; else from them."""
        data = self.results.get("data", {})
        keys = [field.name for field in fields(Inputs) if field.name != "white"]
        if not isinstance(data, dict) or not set(keys) <= set(data):
            return Inputs.of(self.datamodule())
        return Inputs.from_record(data, str(self.folder / "results.json"))

    @property
    def stages(self) -> list[str]:
        """The finished stages by name, in the order of their phases; phases that are not stages by the phase's name.

        Only phases that hold a checkpoint count.
        """
        return [self.stage_of(name) for name in self.phases if PhaseFolder(self.folder / name).holds_checkpoint]

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
            raise UserError(f"{path}: phases.{name} is not a phase with a module")
        _check_spec(path, f"phases.{name}.module", phase.get("module"))


def _check_spec(path: Path, key: str, spec: Any) -> None:
    if not isinstance(spec, dict) or not isinstance(spec.get("class_path"), str):
        raise UserError(f"{path}: {key} names no class (class_path)")
    if not isinstance(spec.get("init_args") or {}, dict):
        raise UserError(f"{path}: {key}.init_args are not arguments by name")
