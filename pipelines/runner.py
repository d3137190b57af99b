"""Run a pipeline: order, folders, a fresh Trainer per phase, hand-over by files, resume."""

import contextlib
import gc
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from lightning.pytorch.utilities import rank_zero_info

from datamodules.base import HandfulDataModule
from handful.atomic import copy_file, write_json, write_text
from handful.errors import UserError, did_you_mean
from handful.freed_memory import hand_back_memory
from handful.networks import build_classifier
from handful.tensor_files import read_once
from lightning_modules import TrainedModule
from lightning_modules.schedules import check_closures
from pipelines.build import build_callbacks, build_datamodule, build_phase, plain
from pipelines.config import PhaseConfig, Pipeline
from pipelines.find_run import check_run_dir
from pipelines.lightning_config import phase_config, pipeline_config
from pipelines.loggers import finish_wandb
from pipelines.monitors import check_monitors
from pipelines.more_loggers import check_loggers, logger_names
from pipelines.one_decision import decided_once
from pipelines.output_folder import check_inside
from pipelines.output_places import check_places
from pipelines.peak_memory import peak_memory_mib, reset_peak_memory
from pipelines.phase_folder import PhaseFolder
from pipelines.phases import Context, Phase, Train
from pipelines.plan import Plan, Step
from pipelines.process_group import group_ended
from pipelines.process_state import OF_CUBLAS, process_kept, warnings_kept
from pipelines.processes import lost_process
from pipelines.ranks import global_rank
from pipelines.results import gather_results, write_results
from pipelines.run_folder import folder_of_run, lock, replaced_folder, sweep
from pipelines.tables import stage_table
from pipelines.taken_phases import take_phases
from pipelines.trainer import build_trainer, check_callbacks, check_trainer, share_the_cores, try_trainer

#: Steps that begin with the phase's `last.ckpt`.
_RESUMED = (Step.RESUME, Step.CONTINUE)


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
        self.folder = folder_of_run(pipeline.run_dir, pipeline.name)
        names = list(pipeline.phases)
        if start_at is not None and start_at not in names:
            raise UserError(f"start_at: no phase {start_at!r}; there are {', '.join(names)}")
        self.redo = set() if start_at is None else set(names[names.index(start_at) :])
        if not 0 <= pipeline.seed < 2**32 - len(names):
            raise UserError(f"seed: from 0 to {2**32 - len(names) - 1}, not {pipeline.seed}")
        self._processes = 1
        self._needs_validation: list[str] = []
        self._stands_in: list[str] = []
        self._known_contents: dict[str, str] = {}
        self.plan = Plan(pipeline, self.folder, self.redo, self._contents)
        check_run_dir(self.folder, names)
        check_trainer("trainer", pipeline.trainer)
        for name, phase in pipeline.phases.items():
            check_trainer(f"phases.{name}.trainer", phase.trainer)

    def run(self) -> dict[str, Any]:
        """Run what is not finished yet and return the content of `results.json`; the process is left as it was."""
        with process_kept(), warnings_kept():
            return self._checked_run()

    def _checked_run(self) -> dict[str, Any]:
        datamodule = self._data({})
        shared = self._shared(datamodule)
        self._check(shared)
        self._check_images(datamodule)
        # one process holds the lock for all of them
        for phase in (self.folder / name for name in self.pipeline.phases):
            check_inside(phase)
            for inner in phase.iterdir() if phase.is_dir() else ():
                check_inside(inner)
        with self._locked() if global_rank() == 0 else contextlib.nullcontext():
            return self._run(datamodule, shared)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The run's folder, for this run alone and without what a killed one left there; gone where it stays empty."""
        made = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with lock(self.folder):
                sweep(self.folder, list(self.pipeline.phases))
                yield
        finally:
            for folder in made:  # the innermost first; one that holds anything stays
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def _run(self, datamodule: HandfulDataModule, shared: dict[str, Any]) -> dict[str, Any]:
        if self.pipeline.phases_from is not None:
            decided_once(f"phases for {self.folder}", lambda: take_phases(self.plan, str(self.pipeline.phases_from)))
        steps = self.plan.steps()
        earlier: dict[str, Path] = {}
        with group_ended():
            for index, (name, phase) in enumerate(self.pipeline.phases.items()):
                if steps[name] is Step.SKIP:
                    rank_zero_info(f"{name}: finished before, skipped")
                else:
                    data = self._data(phase.data) if phase.data else datamodule
                    with read_once(self.folder / name / "last.ckpt" if steps[name] in _RESUMED else None):
                        self._run_phase(index, name, phase, steps[name], data, shared, dict(earlier))
                    gc.collect()
                    hand_back_memory()
                earlier[name] = self.folder / name
        results = gather_results(self.folder, list(self.pipeline.phases), datamodule.summary())
        if global_rank() == 0:
            write_results(self.folder, results)
        return results

    def _contents(self, phase: PhaseConfig) -> str:
        """The phase's images, by their names and sizes."""
        key = json.dumps(plain(phase.data), sort_keys=True)
        if key not in self._known_contents:
            self._known_contents[key] = self._data(phase.data).contents()
        return self._known_contents[key]

    def _data(self, overrides: Mapping[str, Any]) -> HandfulDataModule:
        datamodule = build_datamodule(self.pipeline.data, dict(overrides))
        datamodule.follow(self.pipeline.network)
        return datamodule

    def _shared(self, datamodule: HandfulDataModule) -> dict[str, Any]:
        """What the phases' modules are given, where they take it."""
        network = self.pipeline.network
        network.image_size = network.image_size or datamodule.image_size
        return {"network": network.plain(), "num_classes": datamodule.num_classes}

    def _check(self, shared: dict[str, Any]) -> None:
        """Build everything once, so that a mistake in the last phase ends the run before the first."""
        check_loggers(logger_names(self.pipeline.loggers), self.pipeline.wandb)
        classifier = build_classifier(shared["network"], shared["num_classes"])
        before: dict[str, frozenset[str]] = {}
        for index, (name, phase) in enumerate(self.pipeline.phases.items()):
            key = f"phases.{name}"
            what = build_phase(phase.module, name, self._arguments(index, shared))
            try:
                what.check(classifier)
            except UserError as error:
                raise UserError(f"{key}: {error}") from error
            for needed, kind in what.inputs:
                suitable = [other for other, leaves in before.items() if kind in leaves]
                if needed not in suitable:
                    found = f"{needed!r} leaves none" if needed in before else f"no {needed!r} is before it"
                    known = (", ".join(suitable) or "none") + did_you_mean(needed, suitable)
                    raise UserError(f"{key}: needs an earlier phase that leaves {kind}; {found}; there are {known}")
            if phase.max_epochs == 0 and isinstance(what, Train) and what.module.starts_fresh:
                raise UserError(
                    f"{key}.max_epochs is 0, but there are no weights to take; give epochs, --init_from or "
                    "--network.pretrained"
                )
            if phase.max_epochs < 0:
                raise UserError(f"{key}.max_epochs: at least 0, not {phase.max_epochs}")
            if phase.data:
                self._data(phase.data)
            callbacks = build_callbacks(phase.callbacks)
            check_callbacks(key, phase, callbacks)
            profiler = {**self.pipeline.trainer, **phase.trainer}.get("profiler")
            check_places(key, self.folder / name, [*callbacks, profiler])
            if isinstance(what, Train):
                watched = check_monitors(key, phase, what.module, callbacks)
                self._needs_validation += watched.needs_validation
                self._stands_in += watched.stands_in
            self._processes = try_trainer(key, self.pipeline, phase, PhaseFolder(self.folder / name))
            if isinstance(what, Train) and (factory := getattr(what.module, "optimizer_factory", None)) is not None:
                accumulated = {**self.pipeline.trainer, **phase.trainer}.get("accumulate_grad_batches") or 1
                try:
                    check_closures(factory, accumulated, self._processes)
                except UserError as error:
                    raise UserError(f"{key}: {error}") from error
            before[name] = what.leaves

    def _check_images(self, datamodule: HandfulDataModule) -> None:
        """Refuse more processes than images, one without any would leave the others waiting; and a lack of images."""
        if global_rank() != 0:  # reading the images is for one process; the others find them
            return
        if self._needs_validation and "val" not in datamodule.splits:
            raise UserError(f"{self._needs_validation[0]}, but there are no validation images")
        if self._stands_in and "val" in datamodule.splits:
            raise UserError(
                f"{self._stands_in[0]}, which is measured where there are no validation images; watch that of val/"
            )
        for split, images in datamodule.splits.items():  # images that cannot be read end a run before it has a folder
            if len(images) < self._processes > 1:
                raise UserError(
                    f"trainer.devices: {self._processes} processes, but only {len(images)} {split} images; "
                    f"take at most {len(images)}"
                )

    def _arguments(self, index: int, shared: dict[str, Any]) -> dict[str, Any]:
        return shared | ({"init_from": self.pipeline.init_from} if index == 0 else {})

    @process_kept(OF_CUBLAS)  # what a phase's Trainer sets is not there for the next one
    def _run_phase(
        self,
        index: int,
        name: str,
        phase: PhaseConfig,
        step: Step,
        datamodule: HandfulDataModule,
        shared: dict[str, Any],
        earlier: dict[str, Path],
    ) -> None:
        folder = PhaseFolder(self.folder / name)
        resume = folder.last if step in _RESUMED else None
        for phase_before in earlier.values():
            PhaseFolder(phase_before).verify()
        seed = self.pipeline.seed + index
        pl.seed_everything(seed, workers=True, verbose=False)
        what = build_phase(phase.module, name, self._arguments(index, shared))
        begun = folder.started() if resume else None
        if resume and begun and isinstance(what, Train) and (given := str(begun.get("started_from") or "")):
            what.resume_from(resume, given)
        what.take(earlier)
        # nothing of an earlier run is touched before the new phase could be built and handed its weights
        config, made_from, spent = self.plan.fingerprint(phase), self.plan.made_from(name), _spent(folder, step)
        if global_rank() == 0:
            if not resume:
                self._make_room(folder)
            folder.path.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / "config.yaml", yaml.safe_dump(pipeline_config(self.pipeline), sort_keys=False))
            folder.start(config, made_from, spent, what.started_from)
            for outdated in (self.folder / "results.json", folder.done_file):
                outdated.unlink(missing_ok=True)
            self._describe(folder, phase, what, datamodule)
        validates = datamodule.val_dataset is not None
        parameters = {"phase": name, **pipeline_config(self.pipeline)}
        rank_zero_info(f"── {name}" + (f", resumed from {folder.last}" if resume else ""))
        trainer = build_trainer(
            self.pipeline, phase, folder, seed, resume, validates, parameters, all_images=what.needs_all_images
        )
        share_the_cores(trainer)
        context = Context(trainer, datamodule, earlier, folder, phase.max_epochs, resume)
        reset_peak_memory()
        clock = time.perf_counter()
        try:
            produced = what.run(context)
            if trainer.interrupted:
                raise KeyboardInterrupt
            trainer.strategy.barrier(f"{name} finished")
            trained = trainer.fit_loop.epoch_progress.current.ready > 0
            if phase.max_epochs > 0 and not trained and not folder.last.is_file():
                raise UserError("training ended before its first step; give it more time (trainer.max_time)")
            if trainer.is_global_zero:
                if folder.last.is_file() and not (validates and folder.best.is_file()):
                    copy_file(folder.last, folder.best)  # no validation images to choose by
                if produced.module is not None:
                    self._describe(folder, phase, produced.module, datamodule)
                if produced.rows:
                    write_json(folder.stages_file, produced.rows)
                seconds = spent + time.perf_counter() - clock
                memory = peak_memory_mib(trainer.strategy.root_device)
                folder.finish(config, made_from, seconds, memory, what.started_from)
                shutil.rmtree(replaced_folder(folder.path), ignore_errors=True)
                _tell(trainer, name, seconds)
            trainer.strategy.barrier(f"{name} recorded")
        except UserError as error:
            raise UserError(f"phase {name}: {error}") from error
        except RuntimeError as error:
            if trainer.world_size > 1 and (lost := lost_process(error)) is not None:
                raise UserError(f"phase {name}: {lost}") from error
            if not str(error).startswith("Early stopping conditioned on metric"):
                raise
            raise UserError(f"phase {name}: {' '.join(str(error).split())}") from error
        finally:
            finish_wandb()

    def _describe(
        self, folder: PhaseFolder, phase: PhaseConfig, what: Phase | TrainedModule, datamodule: HandfulDataModule
    ) -> None:
        """Write the phase's config."""
        config = phase_config(self.pipeline, phase, what, datamodule)
        write_text(folder.config, yaml.safe_dump(config, sort_keys=False))

    @staticmethod
    def _make_room(folder: PhaseFolder) -> None:
        """Put what an earlier run left in a phase's folder aside until the new phase is finished.

        Where something is aside already, that is the last whole version, and what is here is the rest of an attempt.
        """
        replaced = replaced_folder(folder.path)
        if folder.path.exists():
            if replaced.exists():
                folder.clear()
            else:
                folder.path.rename(replaced)


def _tell(trainer: pl.Trainer, name: str, seconds: float) -> None:
    """What the phase ended with, as a table of one row."""
    measures = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
    if measures:
        row = {key.removeprefix("val/"): value for key, value in measures.items()} | {"seconds": seconds}
        print(f"\n{stage_table({name: row}, 'phase')}\n", flush=True)


def _spent(folder: PhaseFolder, step: Step) -> float:
    """Seconds of training before this attempt, up to the checkpoint that it resumes from."""
    if step is Step.CONTINUE and (done := folder.done()) is not None:
        return float(done["seconds"])
    begun = folder.started()
    if step is Step.RUN or begun is None:
        return 0.0
    return float(begun["seconds"] + max(0.0, folder.last.stat().st_mtime - begun["started"]))
