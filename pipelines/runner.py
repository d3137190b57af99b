"""How a pipeline runs: order, folders, a fresh Trainer a phase, hand-over by files, resume."""

import json
import math
import platform
import shutil
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch as pl
import timm
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_info

import handful
from callbacks.epoch_seed import EpochSeed
from datamodules.base import HandfulDataModule
from handful.errors import UserError
from handful.networks import build_classifier, input_statistics
from lightning_modules import PhaseModule
from pipelines.build import build_callbacks, build_datamodule, build_module, plain
from pipelines.files import write_atomically
from pipelines.loggers import csv_logger, finish_wandb, wandb_logger
from pipelines.memory import peak_memory_mib, reset_peak_memory
from pipelines.phases import Phase, Pipeline
from pipelines.ranks import global_rank
from pipelines.tables import format_table, stage_table

#: Digits after the point in `results.json`; float32 sums of other batches differ only beyond them.
DIGITS = 4

#: Rank zero may solve for long while the others wait; Lightning's own limit is half an hour.
PATIENCE = timedelta(days=2)


class Runner:
    """Runs a pipeline's phases one after another, each resumable.

    Args:
        pipeline: the whole run in plain values.
        start_at: redo from this phase on, whatever is finished.

    Raises:
        UserError: `start_at` names no phase, or the strategy cannot hand over.
    """

    def __init__(self, pipeline: Pipeline, start_at: str | None = None) -> None:
        self.pipeline = pipeline
        self.folder = Path(pipeline.run_dir or f"runs/{pipeline.name}")
        names = list(pipeline.phases)
        if start_at is not None and start_at not in names:
            raise UserError(f"start_at: no phase {start_at!r}; there are {', '.join(names)}")
        self.redo = set() if start_at is None else set(names[names.index(start_at) :])
        _check_trainer("trainer", pipeline.trainer)
        for name, phase in pipeline.phases.items():
            _check_trainer(f"phases.{name}.trainer", phase.trainer)

    def run(self) -> dict[str, Any]:
        """Run what is not finished yet and return the content of `results.json`."""
        pipeline = self.pipeline
        datamodule = self._data({})
        shared = self._shared(datamodule)
        self._check(shared)
        self.folder.mkdir(parents=True, exist_ok=True)
        if global_rank() == 0:
            self._forget()
            write_atomically(self.folder / "config.yaml", yaml.safe_dump(_as_config(pipeline), sort_keys=False))
        earlier: dict[str, Path] = {}
        try:
            for index, (name, phase) in enumerate(pipeline.phases.items()):
                if self._finished(name, phase):
                    rank_zero_info(f"{name}: finished before, skipped")
                else:
                    data = self._data(phase.data) if phase.data else datamodule
                    self._run_phase(index, name, phase, data, shared, dict(earlier))
                earlier[name] = self.folder / name
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        return self._results(datamodule.summary())

    def _data(self, overrides: Mapping[str, Any]) -> HandfulDataModule:
        datamodule = build_datamodule(self.pipeline.data, dict(overrides))
        if datamodule.normalisation == "backbone":
            datamodule.set_normalisation(*input_statistics(self.pipeline.network))
        return datamodule

    def _shared(self, datamodule: HandfulDataModule) -> dict[str, Any]:
        """What the phases' modules are given, where they take it."""
        return {"network": self.pipeline.network.plain(), "num_classes": datamodule.num_classes}

    def _check(self, shared: dict[str, Any]) -> None:
        """Build every phase's module once, so that a mistake in the last ends the run before the first."""
        classifier = build_classifier(shared["network"], shared["num_classes"])
        for index, (name, phase) in enumerate(self.pipeline.phases.items()):
            module = build_module(phase.module, name, self._arguments(index, shared))
            try:
                module.check(classifier)
            except UserError as error:
                raise UserError(f"phases.{name}: {error}") from error
            build_callbacks(phase.callbacks)

    def _arguments(self, index: int, shared: dict[str, Any]) -> dict[str, Any]:
        return shared | ({"init_from": self.pipeline.init_from} if index == 0 else {})

    def _forget(self) -> None:
        for name in self.redo:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _finished(self, name: str, phase: Phase) -> bool:
        """Whether the phase is done with the very configuration that is asked for now."""
        folder = self.folder / name
        if name in self.redo or not (folder / "done.json").is_file():
            return False
        asked, done = self._fingerprint(phase), json.loads((folder / "done.json").read_text())["config"]
        for key in asked:
            if asked[key] != done.get(key):
                raise UserError(
                    f"{folder}: finished with another {key} ({_brief(done.get(key))}, now {_brief(asked[key])}); give "
                    f"--start_at {name} to redo from there, or another --run_dir"
                )
        return True

    def _fingerprint(self, phase: Phase) -> dict[str, Any]:
        """What must be equal for a finished phase to count as done."""
        pipeline = self.pipeline
        record = {
            "seed": pipeline.seed,
            "network": pipeline.network.plain(),
            "module": phase.module,
            "max_epochs": phase.max_epochs,
            "init_from": self.pipeline.init_from,
            "data": {k: v for k, v in _flat(pipeline.data | {"phase": phase.data}).items() if "num_workers" not in k},
        }
        return json.loads(json.dumps(plain(record)))

    def _run_phase(
        self,
        index: int,
        name: str,
        phase: Phase,
        datamodule: HandfulDataModule,
        shared: dict[str, Any],
        earlier: dict[str, Path],
    ) -> None:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        last = folder / "last.ckpt"
        resume = last if last.is_file() and name not in self.redo else None
        self.redo.discard(name)
        seed = self.pipeline.seed + index
        pl.seed_everything(seed, workers=True, verbose=False)
        module = build_module(phase.module, name, self._arguments(index, shared))
        module.hand_over(earlier)
        trainer = self._trainer(name, phase, folder, seed, resume, validates=datamodule.val_dataset is not None)
        rank_zero_info(f"── {name}" + (f", resumed from {last}" if resume else ""))
        if global_rank() == 0:
            write_atomically(folder / "config.yaml", yaml.safe_dump(self._phase_config(phase, module), sort_keys=False))
        reset_peak_memory()
        started = time.perf_counter()
        try:
            if phase.max_epochs == 0 and type(module).execute is PhaseModule.execute:
                _take_as_it_is(trainer, module, datamodule, folder)
            else:
                module.execute(trainer, datamodule, resume)
            if trainer.interrupted:
                raise KeyboardInterrupt
            if trainer.is_global_zero and (folder / "last.ckpt").is_file() and not (folder / "best.ckpt").is_file():
                shutil.copyfile(folder / "last.ckpt", folder / "best.ckpt")  # no validation images to choose by
            trainer.strategy.barrier(f"{name} finished")
            if trainer.is_global_zero:
                seconds = time.perf_counter() - started
                self._done(folder, name, phase, seconds, resumed=resume is not None)
                _tell(trainer, name, seconds)
            trainer.strategy.barrier(f"{name} recorded")
        except UserError as error:
            raise UserError(f"phase {name}: {error}") from error
        finally:
            finish_wandb()

    def _trainer(
        self, name: str, phase: Phase, folder: Path, seed: int, resume: Path | None, validates: bool
    ) -> pl.Trainer:
        """A fresh Trainer with fresh callbacks and loggers of its own."""
        arguments = {**self.pipeline.trainer, **phase.trainer}
        if arguments.get("strategy", "auto") in ("auto", "ddp") and _several_processes(arguments):
            arguments["strategy"] = DDPStrategy(timeout=PATIENCE)
        step = None
        if resume is not None:
            step = int(torch.load(resume, map_location="cpu", weights_only=True)["global_step"])
        loggers: list[Any] = [csv_logger(folder, step)]
        dashboard = wandb_logger(self.pipeline.wandb, self.pipeline.name, name, folder)
        if dashboard is not None:
            dashboard.log_hyperparams({"phase": name, **_as_config(self.pipeline)})
            loggers.append(dashboard)
        return pl.Trainer(
            **{
                "max_epochs": phase.max_epochs,
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
                "log_every_n_steps": 10,
                "use_distributed_sampler": False,
                **arguments,
            },
            default_root_dir=folder,
            logger=loggers,
            callbacks=[
                EpochSeed(seed),
                *_checkpoints(folder, phase, validates),
                *build_callbacks(phase.callbacks),
            ],
        )

    def _phase_config(self, phase: Phase, module: PhaseModule) -> dict[str, Any]:
        """The phase as a config of `train.py fit|validate|test|predict`."""
        init_args = dict(phase.module.get("init_args") or {})
        init_args = {**init_args, **{k: plain(v) for k, v in module.hparams.items() if type(module).accepts(k)}}
        init_args.pop("num_classes", None)
        return plain(
            {
                "seed_everything": self.pipeline.seed,
                "trainer": {**self.pipeline.trainer, **phase.trainer, "max_epochs": phase.max_epochs},
                "model": {"class_path": f"lightning_modules.{type(module).__name__}", "init_args": init_args},
                "data": self.pipeline.data,
            }
        )

    def _done(self, folder: Path, name: str, phase: Phase, seconds: float, resumed: bool) -> None:
        record = {
            "config": self._fingerprint(phase),
            "seconds": round(seconds, 3),
            "peak_memory_mib": round(peak_memory_mib(), 1),
            "resumed": resumed,
        }
        for extra in folder.glob("*.tmp"):
            extra.unlink()
        write_atomically(folder / "done.json", json.dumps(record, indent=2))

    def _results(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Gather the rows and records of all phases into `results.json`."""
        stages: dict[str, Any] = {}
        seconds: dict[str, float] = {}
        memory: dict[str, float] = {}
        for name in self.pipeline.phases:
            folder = self.folder / name
            record = json.loads((folder / "done.json").read_text())
            seconds[name], memory[name] = record["seconds"], record["peak_memory_mib"]
            if (folder / "stages.json").is_file():
                stages |= json.loads((folder / "stages.json").read_text())
        results: dict[str, Any] = {
            "stages": {stage: {k: _rounded(v) for k, v in row.items()} for stage, row in stages.items()},
            "seconds": seconds,
            "peak_memory_mib": memory,
            "versions": versions(),
            "data": summary,
        }
        if global_rank() == 0:
            write_atomically(self.folder / "results.json", json.dumps(results, indent=2))
            if stages:
                print(f"\n{stage_table(results['stages'])}\n\n  written to {self.folder / 'results.json'}", flush=True)
        return results


def _tell(trainer: pl.Trainer, name: str, seconds: float) -> None:
    """What the phase ended with, as a table of one row."""
    measures = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
    if measures:
        columns = ["phase", *(k.removeprefix("val/") for k in measures), "seconds"]
        print(f"\n{format_table(columns, [[name, *measures.values(), seconds]])}\n", flush=True)


def _take_as_it_is(
    trainer: pl.Trainer, module: PhaseModule, datamodule: HandfulDataModule, folder: Path
) -> None:
    """A phase of no epochs: validate the module it was handed, and store it."""
    from lightning_modules import save_module

    if datamodule.val_dataset is not None:
        trainer.validate(module, datamodule=datamodule, verbose=False)
    elif trainer.strategy.launcher is not None:
        trainer.validate(module, dataloaders=[], verbose=False)  # starts the other processes all the same
    if trainer.is_global_zero:
        for file in ("last.ckpt", "best.ckpt"):
            save_module(module, folder / file)


def _several_processes(arguments: Mapping[str, Any]) -> bool:
    """Whether the Trainer would start more than one process."""
    devices = arguments.get("devices", "auto")
    if int(arguments.get("num_nodes", 1)) > 1 or isinstance(devices, list):
        return int(arguments.get("num_nodes", 1)) > 1 or len(devices) > 1
    if str(devices) in ("auto", "-1"):
        return arguments.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.device_count() > 1
    return str(devices).count(",") > 0 or int(devices) > 1


def _checkpoints(folder: Path, phase: Phase, validates: bool) -> list[pl.Callback]:
    """`last.ckpt` after every epoch, and `best.ckpt` by the validation measure where there is one."""
    last = ModelCheckpoint(
        dirpath=folder, filename="last", save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    best = ModelCheckpoint(
        dirpath=folder,
        filename="best",
        save_top_k=1,
        monitor=phase.monitor,
        mode="min" if phase.monitor.endswith("loss") else "max",
        enable_version_counter=False,
    )
    return [best, last] if validates else [last]


def _check_trainer(key: str, arguments: Mapping[str, Any]) -> None:
    """Refuse what a Trainer would not take, and strategies that lose what a phase hands over."""
    import inspect

    known = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self", "callbacks", "logger", "default_root_dir"}
    for name in arguments:
        if name not in known:
            raise UserError(f"{key}.{name}: not an argument of the Trainer that a pipeline can set")
    strategy = str(arguments.get("strategy", "auto"))
    if "fork" in strategy or "spawn" in strategy or "notebook" in strategy:
        raise UserError(f"{key}.strategy: {strategy} loses what a phase hands over; use ddp")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {
        "handful": handful.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "timm": timm.__version__,
    }


def _as_config(pipeline: Pipeline) -> dict[str, Any]:
    from dataclasses import asdict

    return plain(asdict(pipeline))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{prefix}{key}.").items()}
    return {prefix[:-1]: value}


def _brief(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def _rounded(value: Any) -> Any:
    return round(value, DIGITS) if isinstance(value, float) and math.isfinite(value) else (
        None if isinstance(value, float) else value
    )
