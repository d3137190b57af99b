"""How a pipeline runs: order, folders, a fresh Trainer a phase, hand-over by files, resume."""

import inspect
import json
import math
import platform
import shutil
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch as pl
import timm
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_info

import handful
from callbacks.epoch_seed import EpochSeed
from datamodules.base import HandfulDataModule
from handful.errors import UserError
from handful.networks import build_classifier, input_statistics
from lightning_modules import PhaseModule, load_module, save_module
from lightning_modules.checkpoints import AtomicCheckpointIO
from pipelines.build import build_callbacks, build_datamodule, build_module, class_of, plain
from pipelines.files import copy_atomically, digest, made_from, read_record, write_atomically
from pipelines.loggers import csv_logger, finish_wandb, wandb_logger
from pipelines.memory import peak_memory_mib, reset_peak_memory
from pipelines.phases import Phase, Pipeline
from pipelines.progress import with_progress_bar
from pipelines.ranks import global_rank
from pipelines.sync_batchnorm import synchronised
from pipelines.tables import format_table, stage_table

#: Digits after the point in `results.json`; float32 sums of other batches differ only beyond them.
DIGITS = 4

#: Where a phase's record keeps what the files of weights held.
WEIGHTS = "content of the weights"

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
        if not 0 <= pipeline.seed < 2**32 - len(names):
            raise UserError(f"seed: from 0 to {2**32 - len(names) - 1}, not {pipeline.seed}")
        self._processes = 1
        self._known_contents: dict[str, str] = {}
        _check_trainer("trainer", pipeline.trainer)
        for name, phase in pipeline.phases.items():
            _check_trainer(f"phases.{name}.trainer", phase.trainer)

    def run(self) -> dict[str, Any]:
        """Run what is not finished yet and return the content of `results.json`."""
        pipeline = self.pipeline
        datamodule = self._data({})
        shared = self._shared(datamodule)
        self._check(shared)
        self._check_share(datamodule)
        waiting = self._unfinished()
        self.folder.mkdir(parents=True, exist_ok=True)
        earlier: dict[str, Path] = {}
        try:
            for index, (name, phase) in enumerate(pipeline.phases.items()):
                if name in waiting:
                    data = self._data(phase.data) if phase.data else datamodule
                    self._run_phase(index, name, phase, data, shared, dict(earlier))
                else:
                    rank_zero_info(f"{name}: finished before, skipped")
                earlier[name] = self.folder / name
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        return self._results(datamodule.summary())

    def _contents(self, phase: Phase) -> str:
        """The phase's images, by their names and sizes."""
        key = json.dumps(plain(phase.data), sort_keys=True)
        if key not in self._known_contents:
            self._known_contents[key] = self._data(phase.data).contents()
        return self._known_contents[key]

    @cached_property
    def _weights(self) -> list[str]:
        """The files of weights to start from, by what they hold."""
        files = [self.pipeline.init_from, self.pipeline.network.pretrained]
        return [digest(Path(file)) for file in files if isinstance(file, str) and Path(file).is_file()]

    def _unfinished(self) -> set[str]:
        """The phases to run: those not done, and all that stand on one that runs.

        Raises:
            UserError: a finished or begun phase has another configuration than the one asked for.
        """
        waiting: set[str] = set()
        for name, phase in self.pipeline.phases.items():
            folder = self.folder / name
            done = read_record(folder / "done.json")
            if waiting or name in self.redo or done is None or done["made_from"] != self._made_from(name):
                waiting.add(name)
            record = done or read_record(folder / "started.json")
            # what is made anew from other weights, or on demand, may have another configuration
            if name not in self.redo and record is not None and record["made_from"] == self._made_from(name):
                self._compare(name, phase, record["config"], "finished" if done else "begun")
        return waiting

    def _compare(self, name: str, phase: Phase, found: dict[str, Any], how: str) -> None:
        asked = self._fingerprint(phase)
        for key, value in asked.items():
            if key not in found or (key == WEIGHTS and not (value and found[key])):
                continue  # an older record, or a file that is gone and not needed again
            if _given(value) != _given(found.get(key)):
                raise UserError(
                    f"{self.folder / name}: {how} with another {key} ({_brief(found.get(key))}, now {_brief(value)}); "
                    f"give --start_at {name} to redo from there, or another --run_dir"
                )

    def _made_from(self, name: str) -> dict[str, str]:
        """The earlier phases, by what they left."""
        names = list(self.pipeline.phases)
        return made_from(self.folder, names[: names.index(name)])

    def _data(self, overrides: Mapping[str, Any]) -> HandfulDataModule:
        datamodule = build_datamodule(self.pipeline.data, dict(overrides))
        if datamodule.normalisation == "backbone":
            datamodule.set_normalisation(*input_statistics(self.pipeline.network))
        return datamodule

    def _shared(self, datamodule: HandfulDataModule) -> dict[str, Any]:
        """What the phases' modules are given, where they take it."""
        network = self.pipeline.network
        network.image_size = network.image_size or datamodule.image_size
        return {"network": network.plain(), "num_classes": datamodule.num_classes}

    def _check(self, shared: dict[str, Any]) -> None:
        """Build everything once, so that a mistake in the last phase ends the run before the first."""
        classifier = build_classifier(shared["network"], shared["num_classes"])
        before: list[str] = []
        for index, (name, phase) in enumerate(self.pipeline.phases.items()):
            key = f"phases.{name}"
            module = build_module(phase.module, name, self._arguments(index, shared))
            try:
                module.check(classifier)
            except UserError as error:
                raise UserError(f"{key}: {error}") from error
            for needed in module.needs():
                if needed not in before:
                    there = ", ".join(before) or "none"
                    raise UserError(f"{key}: needs a phase {needed!r} before it; there are {there}")
            if phase.max_epochs == 0 and module.starts_fresh:
                raise UserError(
                    f"{key}.max_epochs is 0, but there are no weights to take; give epochs, --init_from or "
                    "--network.pretrained"
                )
            if phase.max_epochs < 0:
                raise UserError(f"{key}.max_epochs: at least 0, not {phase.max_epochs}")
            if phase.data:
                self._data(phase.data)
            build_callbacks(phase.callbacks)
            self._try_trainer(key, phase)
            before.append(name)

    def _check_share(self, datamodule: HandfulDataModule) -> None:
        """Refuse more processes than images: one without any would leave the others waiting."""
        if self._processes == 1 or global_rank() != 0:  # reading the images is for one process; the others find them
            return
        for split, images in datamodule.splits.items():
            if len(images) < self._processes:
                raise UserError(
                    f"trainer.devices: {self._processes} processes, but only {len(images)} {split} images; "
                    f"take at most {len(images)}"
                )

    def _try_trainer(self, key: str, phase: Phase) -> None:
        """Build the phase's Trainer without loggers and checkpoints, for its complaints."""
        arguments = {**self.pipeline.trainer, **phase.trainer}
        try:
            trainer = pl.Trainer(**arguments, logger=False, enable_checkpointing=False, max_epochs=phase.max_epochs)
        except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{key}: the Trainer refuses its arguments: {' '.join(str(error).split())}") from error
        self._processes = trainer.num_devices * trainer.num_nodes

    def _arguments(self, index: int, shared: dict[str, Any]) -> dict[str, Any]:
        return shared | ({"init_from": self.pipeline.init_from} if index == 0 else {})

    def _fingerprint(self, phase: Phase) -> dict[str, Any]:
        """What must be equal for a finished phase to count as done."""
        pipeline = self.pipeline
        hardware = ("devices", "num_nodes", "accelerator", "strategy", "log_every_n_steps", "profiler", "barebones")
        trainer = {
            key: value
            for key, value in {**pipeline.trainer, **phase.trainer}.items()
            if key not in hardware and not key.startswith("enable_")
        }
        # the place of the images may change, the images may not
        data = _flat(pipeline.data | {"phase": phase.data})
        record = {
            "seed": pipeline.seed,
            "network": pipeline.network.plain(),
            "module": phase.module,
            "max_epochs": phase.max_epochs,
            "init_from": pipeline.init_from,
            "trainer": trainer,
            "callbacks": phase.callbacks,
            "monitor": phase.monitor,
            "data": {k: v for k, v in data.items() if not k.endswith(("num_workers", "cache_dir", "root"))},
            "content of the images": self._contents(phase),
            WEIGHTS: self._weights,
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
        last = folder / "last.ckpt"
        begun = read_record(folder / "started.json")
        made_from = self._made_from(name)
        goes_on = name not in self.redo and begun is not None and begun["made_from"] == made_from
        resume = last if goes_on and last.is_file() else None
        seed = self.pipeline.seed + index
        pl.seed_everything(seed, workers=True, verbose=False)
        module = build_module(phase.module, name, self._arguments(index, shared))
        module.hand_over(earlier)
        spent = _spent(begun, last) if resume else 0.0
        # nothing of an earlier run is touched before the new phase could be built and handed its weights
        replaced = folder.with_name(f"{name}.replaced")
        started = {"config": self._fingerprint(phase), "made_from": made_from, "started": time.time(), "seconds": spent}
        if global_rank() == 0:
            if not resume and folder.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                folder.rename(replaced)
            if not resume:
                (self.folder / "results.json").unlink(missing_ok=True)  # of phases that are made anew from here on
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / "config.yaml", yaml.safe_dump(_as_config(self.pipeline), sort_keys=False))
            write_atomically(folder / "started.json", json.dumps(started, indent=2))
            self._write_phase_config(folder, phase, type(module).__name__, dict(module.hparams), datamodule)
        trainer = self._trainer(name, phase, folder, seed, resume, validates=datamodule.val_dataset is not None)
        rank_zero_info(f"── {name}" + (f", resumed from {last}" if resume else ""))
        reset_peak_memory()
        clock = time.perf_counter()
        try:
            if phase.max_epochs == 0 and type(module).execute is PhaseModule.execute:
                _take_as_it_is(trainer, module, datamodule, folder)
            else:
                module.execute(trainer, datamodule, resume)
            if trainer.interrupted:
                raise KeyboardInterrupt
            trainer.strategy.barrier(f"{name} finished")
            if trainer.is_global_zero:
                if (folder / "last.ckpt").is_file() and not (folder / "best.ckpt").is_file():
                    copy_atomically(folder / "last.ckpt", folder / "best.ckpt")  # no validation images to choose by
                self._describe_best(folder, phase, datamodule)
                seconds = spent + time.perf_counter() - clock
                self._done(folder, started, seconds, peak_memory_mib(trainer.strategy.root_device))
                shutil.rmtree(replaced, ignore_errors=True)
                _tell(trainer, name, seconds)
            trainer.strategy.barrier(f"{name} recorded")
        except UserError as error:
            raise UserError(f"phase {name}: {error}") from error
        except RuntimeError as error:
            if not str(error).startswith("Early stopping conditioned on metric"):
                raise
            raise UserError(f"phase {name}: {' '.join(str(error).split())}") from error
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
            step = _step_of(resume)
        loggers: list[Any] = [csv_logger(folder, step)]
        shows = arguments.get("enable_progress_bar", True)
        dashboard = wandb_logger(self.pipeline.wandb, self.pipeline.name, name, folder)
        if dashboard is not None:
            dashboard.log_hyperparams({"phase": name, **_as_config(self.pipeline)})
            loggers.append(dashboard)
        arguments = synchronised({**arguments, "plugins": [AtomicCheckpointIO()]})
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
                *with_progress_bar(_observers_first(build_callbacks(phase.callbacks)), shows),
            ],
        )

    def _write_phase_config(
        self, folder: Path, phase: Phase, class_name: str, hparams: dict[str, Any], datamodule: HandfulDataModule
    ) -> None:
        """The phase as a config of `train.py fit|validate|test|predict`, with the normalisation it runs with."""
        init_args = dict(phase.module.get("init_args") or {}) if phase.module["class_path"].endswith(class_name) else {}
        accepts = class_of(PhaseModule, {"class_path": class_name}, "module").accepts
        init_args = {k: v for k, v in {**init_args, **hparams}.items() if accepts(k) and k != "num_classes"}
        data = {**(self.pipeline.data.get("init_args") or {}), **phase.data}
        data["normalisation"] = {"mean": list(datamodule.mean), "std": list(datamodule.std)}
        config = {
            "seed_everything": self.pipeline.seed,
            "trainer": {**self.pipeline.trainer, **phase.trainer, "max_epochs": phase.max_epochs},
            "model": {"class_path": f"lightning_modules.{class_name}", "init_args": init_args},
            "data": {"class_path": self.pipeline.data["class_path"], "init_args": data},
        }
        write_atomically(folder / "config.yaml", yaml.safe_dump(plain(config), sort_keys=False))

    def _describe_best(self, folder: Path, phase: Phase, datamodule: HandfulDataModule) -> None:
        """Let the phase's config name the module that its checkpoint holds (the sparse phase's is a classifier)."""
        if (folder / "best.ckpt").is_file():
            module = load_module(folder / "best.ckpt")
            self._write_phase_config(folder, phase, type(module).__name__, dict(module.hparams), datamodule)

    @staticmethod
    def _done(folder: Path, started: dict[str, Any], seconds: float, memory: float) -> None:
        for extra in folder.glob("*.tmp"):
            extra.unlink()
        record = {
            "config": started["config"],
            "made_from": started["made_from"],
            "seconds": round(seconds, 3),
            "peak_memory_mib": round(memory, 1),
            "finished": time.time(),
        }
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


def _observers_first(callbacks: list[pl.Callback]) -> list[pl.Callback]:
    """Averages of weights last: at the end of validation they take back the weights that the others look at."""
    return sorted(callbacks, key=lambda callback: isinstance(callback, WeightAveraging))


def _check_trainer(key: str, arguments: Mapping[str, Any]) -> None:
    """Refuse what a Trainer would not take, and strategies that lose what a phase hands over."""
    ours = {"self", "callbacks", "logger", "default_root_dir", "max_epochs", "plugins", "fast_dev_run"}
    known = set(inspect.signature(pl.Trainer.__init__).parameters) - ours
    for name in arguments:
        if name not in known:
            raise UserError(f"{key}.{name}: not an argument of the Trainer that a pipeline can set")
        if key != "trainer" and name in ("devices", "num_nodes", "accelerator", "strategy"):
            raise UserError(f"{key}.{name}: all phases run on the same processes; set trainer.{name}")
    precision = str(arguments.get("precision", "32-true"))
    precision = {"64": "64-true", "32": "32-true"}.get(precision, precision)
    if precision.endswith("-true") and precision != "32-true":
        raise UserError(
            f"{key}.precision: {precision} keeps the weights themselves in it, which the sparse layer and the reported "
            f"numbers need in float32; take {precision.replace('true', 'mixed')}"
            if precision != "64-true"
            else f"{key}.precision: the networks compute in float32; take 32-true"
        )
    strategy = str(arguments.get("strategy", "auto"))
    if "fork" in strategy or "spawn" in strategy or "notebook" in strategy:
        raise UserError(f"{key}.strategy: {strategy} loses what a phase hands over; use ddp")


def _step_of(checkpoint: Path) -> int:
    """The step at which a run was cut short.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])
    except Exception as error:  # torch raises many kinds for a file it does not like
        raise UserError(
            f"{checkpoint}: cannot be read ({type(error).__name__}); remove it to begin the phase anew"
        ) from error


def _spent(begun: dict[str, Any] | None, last: Path) -> float:
    """Seconds of the attempts before this one, up to the checkpoint it goes on from."""
    return 0.0 if begun is None else begun["seconds"] + max(0.0, last.stat().st_mtime - begun["started"])


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


def _given(value: Any) -> Any:
    """Without what is None: an argument that is not given, or that the version before did not have."""
    if isinstance(value, dict):
        return {key: _given(item) for key, item in value.items() if item is not None}
    return [_given(item) for item in value] if isinstance(value, list) else value


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
