"""Whether a checkpoint holds all that a training resumes from; Lightning silently resumes without much of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, StochasticWeightAveraging, WeightAveraging
from packaging.version import InvalidVersion, Version

from handful.errors import UserError
from handful.tensor_files import read_tensors

_REMEDY = "remove it to run the phase from its beginning"
#: What must be there, and of which kind.
_KINDS = {
    "state_dict": Mapping, "callbacks": Mapping, "optimizer_states": list, "lr_schedulers": list, "loops": Mapping,
    "pytorch-lightning_version": str,
}  # fmt: skip
_VERSION = "pytorch-lightning_version"
#: Callbacks without whose state a training goes on otherwise; a `Timer` may be new.
_DECIDING = (Checkpoint, EarlyStopping, StochasticWeightAveraging, WeightAveraging)
#: The loop of a training, and what it cannot go on without.
_LOOP, _COUNTED = "fit_loop", ("epoch_progress", "epoch_loop.batch_progress")


class NotResumable(ValueError):
    """What a checkpoint lacks, in words; found where Lightning takes it back."""


def step_of(checkpoint: Path) -> int:
    """The step at which a phase was stopped, trained or not.

    Args:
        checkpoint: `last.ckpt`, which is read.

    Raises:
        UserError: it cannot be read.
    """
    step = _content(checkpoint).get("global_step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise cannot_be_resumed(checkpoint, f"global_step is {step!r:.40}")
    return step


def check_resumable(checkpoint: Path) -> None:
    """Refuse a checkpoint that lacks what a training resumes from.

    Raises:
        UserError: it cannot be read, or an entry is missing or of another kind.
    """
    content = _content(checkpoint)
    for name, kind in _KINDS.items():
        if not isinstance(content.get(name), kind):
            found = f"is {type(content[name]).__name__}" if name in content else "is missing"
            raise cannot_be_resumed(checkpoint, f"{name} {found}")
    if not all(isinstance(state, Mapping) for state in content["optimizer_states"]):
        raise cannot_be_resumed(checkpoint, "optimizer_states are of another kind")
    try:
        Version(content[_VERSION])
    except InvalidVersion as error:
        raise cannot_be_resumed(checkpoint, f"{_VERSION} is {content[_VERSION]!r:.40}") from error


def cannot_be_resumed(checkpoint: Path, what: str) -> UserError:
    """The sentence for what is wrong with a checkpoint."""
    return UserError(f"{checkpoint}: cannot be resumed from ({' '.join(what.split()):.200}); {_REMEDY}")


def check_callbacks(found: Mapping[str, Any], trainer: pl.Trainer) -> None:
    """Refuse states of callbacks among which one is missing that decides what is trained or kept.

    Args:
        found: of a checkpoint, by the callbacks' keys.
        trainer: with the callbacks of the phase.

    Raises:
        NotResumable: one is missing.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, _DECIDING) and callback.state_dict() and callback.state_key not in found:
            raise NotResumable(f"the state of {type(callback).__name__} is missing")


def check_counts(checkpoint: Path, optimizers: int, schedules: list[dict[str, Any]], trainer: pl.Trainer) -> None:
    """Refuse states of optimizers and schedules that are not those of the training.

    Args:
        checkpoint: where they were found.
        optimizers: how many states of optimizers there are.
        schedules: states; one of stochastic weight averaging may be among them, which takes the place of the others.
        trainer: about to train.

    Raises:
        UserError: one is missing or one too many.
    """
    if optimizers != len(trainer.optimizers):
        raise cannot_be_resumed(checkpoint, f"states of {optimizers} optimizers for {len(trainer.optimizers)}")
    configs = trainer.lr_scheduler_configs
    if len(schedules) < len(configs):
        raise cannot_be_resumed(checkpoint, f"states of {len(schedules)} schedules for {len(configs)}")
    for state, config in zip(schedules, configs, strict=False):
        if "last_epoch" in config.scheduler.state_dict() and "last_epoch" not in state:
            raise cannot_be_resumed(checkpoint, f"the state of {type(config.scheduler).__name__} is missing")


def check_progress(found: Any, expected: Mapping[str, Any], place: str = _LOOP) -> None:
    """Refuse the state of a loop in which counts are missing or are not counts.

    Args:
        found: of a checkpoint.
        expected: the state of a loop that has not begun.
        place: of the state, for the sentence.

    Raises:
        NotResumable: names the first.
    """
    if not isinstance(found, Mapping):
        raise NotResumable(f"{place} is {type(found).__name__}")
    for name, value in expected.items():
        if name not in found and place == _LOOP and name not in _COUNTED:
            continue  # an earlier version of Lightning did not have it
        if name not in found:
            raise NotResumable(f"{place}.{name} is missing")
        if isinstance(value, Mapping):
            check_progress(found[name], value, f"{place}.{name}")
        elif isinstance(value, int) and (not isinstance(found[name], int) or found[name] < 0):
            raise NotResumable(f"{place}.{name} is {found[name]!r:.40}")


def _content(checkpoint: Path) -> Mapping[str, Any]:
    try:
        content = read_tensors(checkpoint)
    except UserError as error:
        said = error.__cause__ is None  # what is wrong with it, in words
        what = error if said else f"{checkpoint}: cannot be read ({type(error.__cause__).__name__})"
        raise UserError(f"{what}; {_REMEDY}") from error
    if not isinstance(content, Mapping):
        raise cannot_be_resumed(checkpoint, f"it holds {type(content).__name__}")
    return content
