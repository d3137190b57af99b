"""Which phases of a run are finished, which are resumed or continued, and which run from their beginning."""

import contextlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import StochasticWeightAveraging

from handful.errors import UserError
from handful.file_digest import file_digest
from handful.tensor_files import check_sums, find_tensors
from lightning_modules import TrainedModule
from lightning_modules.schedules import follows_length
from pipelines.build import build_callbacks, phase_class, plain
from pipelines.config import PhaseConfig, Pipeline
from pipelines.nested import flat
from pipelines.phase_folder import SHORT, PhaseFolder, made_from
from pipelines.renamed_classes import with_present_names

#: Where a phase's record keeps digests of the files of weights that it started from.
WEIGHTS = "content of the weights"

#: Trainer arguments that change neither weights nor numbers.
_HARDWARE = ("devices", "num_nodes", "accelerator", "strategy", "log_every_n_steps", "profiler", "barebones")


class Step(Enum):
    """What happens to a phase."""

    SKIP = "finished before"
    RUN = "from the beginning"
    RESUME = "from the last epoch of a process that was stopped"
    CONTINUE = "for more epochs than it was finished with"


class Plan:
    """What to do with every phase, judged by the records in the run's folder.

    Args:
        pipeline: the run that is asked for.
        folder: of the run.
        redo: phases to run from the beginning, whatever is finished.
        contents: gives a digest of the images that a phase sees.
    """

    def __init__(
        self, pipeline: Pipeline, folder: Path, redo: set[str], contents: Callable[[PhaseConfig], str]
    ) -> None:
        self.pipeline, self.folder, self.redo = pipeline, folder, redo
        self._contents = contents

    def steps(self) -> dict[str, Step]:
        """The step of every phase; one that stands on a phase that runs again runs again.

        Raises:
            UserError: a finished or begun phase has another configuration than the one asked for, its record is
                damaged, or a file of a finished phase is.
        """
        steps: dict[str, Step] = {}
        for name, phase in self.pipeline.phases.items():
            current = all(step is Step.SKIP for step in steps.values()) and name not in self.redo
            steps[name] = self._step(name, phase) if current else Step.RUN
        return steps

    def _step(self, name: str, phase: PhaseConfig) -> Step:
        """The step of a phase whose earlier phases are all finished."""
        folder = PhaseFolder(self.folder / name)
        done, begun = folder.done(), folder.started()
        record = done or begun
        if record is None or record["made_from"] != self.made_from(name):
            return Step.RUN  # what stands on other versions may have another configuration
        longer = self._compare(folder, phase, record["config"], "finished" if done else "begun")
        if done:
            folder.verify()
            return Step.CONTINUE if longer else Step.SKIP
        if not folder.last.is_file():
            return Step.RUN
        try:
            check_sums(folder.last)  # a phase that is not finished has no digests
        except UserError as error:
            raise UserError(f"{error}; remove it, and {name} runs from its beginning") from error
        return Step.RESUME

    def made_from(self, name: str) -> dict[str, str]:
        """The versions of the earlier phases that a phase stands on."""
        names = list(self.pipeline.phases)
        return made_from(self.folder, names[: names.index(name)])

    def differences(self, name: str, recorded: Mapping[str, Any]) -> dict[str, str]:
        """What a phase was finished or begun with, and is now asked for otherwise: key → both values in a few words.

        Args:
            name: of the phase.
            recorded: `config` of its record.
        """
        phase = self.pipeline.phases[name]
        asked, found = self.fingerprint(phase), with_present_names(dict(recorded))
        differing = {}
        for key, value in asked.items():
            if key not in found or (key == WEIGHTS and not (value and found[key])):
                continue  # an older record, or a file that is gone and not needed again
            if key == "module":
                value = _without_new_defaults(value, found[key], phase_class(phase.module, name))
            if _given(value) != _given(found.get(key)):
                differing[key] = _difference(found.get(key), asked[key])
        return differing

    def _compare(self, folder: PhaseFolder, phase: PhaseConfig, found: Mapping[str, Any], how: str) -> bool:
        """Whether the phase is only asked for more epochs than were recorded."""
        differing = self.differences(folder.name, found)
        if not differing:
            return False
        obstacle = ""
        if list(differing) == ["max_epochs"] and _is_longer(found["max_epochs"], phase.max_epochs):
            obstacle = next(_obstacles(phase, folder), "")
            if not obstacle:
                return True
            obstacle = f", and cannot be continued: {obstacle}"
        key, values = next(iter(differing.items()))
        raise UserError(
            f"{folder.path}: {how} with another {key} ({values}){obstacle}; "
            f"give --start_at {folder.name} to redo from there, or another --run_dir"
        )

    @cached_property
    def _weights(self) -> list[str]:
        """Digests of the files of weights to start from."""
        files = [self.pipeline.init_from, self.pipeline.network.pretrained]
        given = [file for file in files if isinstance(file, str) and Path(file).exists()]
        return [file_digest(find_tensors(file))[:SHORT] for file in given]

    def fingerprint(self, phase: PhaseConfig) -> dict[str, Any]:
        """What must be equal for a finished phase to count as the one asked for, in plain values."""
        pipeline = self.pipeline
        trainer = {
            key: value
            for key, value in {**pipeline.trainer, **phase.trainer}.items()
            if key not in _HARDWARE and not key.startswith("enable_")
        }
        # the place of the images may change, the images may not
        data = flat(pipeline.data | {"phase": phase.data}, ".")
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
        return dict(json.loads(json.dumps(plain(record))))


def _is_longer(found: Any, asked: int) -> bool:
    return isinstance(found, int) and 1 <= found < asked


def _obstacles(phase: PhaseConfig, folder: PhaseFolder) -> Iterator[str]:
    """Why more epochs would not give what an uninterrupted training of that length gives."""
    what = phase_class(phase.module, "module")
    if issubclass(what, TrainedModule) and what.depends_on_length:
        yield f"{what.__name__} {what.depends_on_length}"
    if follows_length((phase.module.get("init_args") or {}).get("lr_scheduler")):
        yield "the learning rate falls over all epochs"
    for callback in build_callbacks(phase.callbacks):
        if getattr(callback, "depends_on_length", isinstance(callback, StochasticWeightAveraging)):
            yield f"what {type(callback).__name__} does depends on the number of epochs"
    if not folder.last.is_file():
        yield f"{folder.last} is not there"


def _without_new_defaults(asked: dict[str, Any], found: Any, cls: type) -> dict[str, Any]:
    """A module's config without arguments that the version before did not have, where they are as they were then."""
    before = (found.get("init_args") if isinstance(found, dict) else None) or {}
    defaults = {
        name: parameter.default
        for base in reversed(cls.__mro__)
        for name, parameter in inspect.signature(vars(base).get("__init__", object.__init__)).parameters.items()
    }
    kept = {
        name: value
        for name, value in (asked.get("init_args") or {}).items()
        if name in before or name not in defaults or value != defaults[name]
    }
    return {**asked, "init_args": kept}


def _given(value: Any) -> Any:
    """Without what is None: an argument that is not given, or that the version before did not have."""
    if isinstance(value, dict):
        return {key: _given(item) for key, item in value.items() if item is not None}
    return [_given(item) for item in value] if isinstance(value, list) else value


def _difference(found: Any, asked: Any) -> str:
    """Two values in a few words; of mappings, and text of one, the first entry that differs."""
    one, other = _mapping(found), _mapping(asked)
    if one is None or other is None:
        return f"{_brief(found)}, now {_brief(asked)}"
    for name in dict.fromkeys((*other, *one)):
        if one.get(name) != other.get(name):
            inner = _difference(one.get(name), other.get(name))
            return inner if name == "init_args" else f"{name} {inner}"
    return f"{_brief(found)}, now {_brief(asked)}"


def _mapping(value: Any) -> dict[str, Any] | None:
    """A mapping, or the one that a text holds as JSON."""
    if isinstance(value, str) and value.startswith("{"):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    return value if isinstance(value, dict) else None


def _brief(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
